"""The seeded generator of procurement notices: invented, with the sizes and gaps of real ones.

Each field has a pool of values with the type, the lengths and (up to `POOL`) the number of distinct
values that `fields.json` lists, and is filled in the listed share of records. The same seed gives
the same bytes on every Python and platform, and a longer sample begins with the records of a
shorter one.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import accumulate, chain, islice
from pathlib import Path
from random import Random  # of which only random() and choices() give the same on every Python
from typing import Any
from uuid import uuid4

import msgspec

from pgload.errors import UsageError

KINDS = ("CNSTWK", "SERVC", "THNG", "FRGCPT", "SCSBID")
VERSION = 2  # of the generator: raise it when any value changes, so that no cached sample is stale
MONTH = "202506010000"  # of the sample, as file names have it

ROWS = 1000  # of a chunk; samples of any size are cut from the same chunks
POOL = 1000  # values in a field's pool, at most
MEASURED = "CNSTWK"  # the kind whose fields were measured; those of the others go by their names
REVISED = 0.146  # share of records that revise a notice: 9,443 records had 8,065 numbers
FIRST_SERIAL = 50_000_000  # far beyond the numbers of real notices

NOTICE = "?bidPbancNo=R25BK{0:08}&bidPbancOrd={1:03}"
DOCUMENT = f"https://www.g2b.go.kr/pn/pnp/pnpe/UntyAtchFile/downloadFile.do{NOTICE}"
# Fields that follow from a record's serial number and revision.
TEMPLATES = {
    "bidNtceNo": "R25BK{0:08}",
    "bidNtceOrd": "{1:03}",
    "untyNtceNo": "R25BM{0:08}",
    "bidNtceDtlUrl": f"https://www.g2b.go.kr/link/PNPE027_01/single/{NOTICE}",
}

Record = dict[str, str]
Keys = list[tuple[int, int]]  # serial number and revision of each row
Maker = Callable[[Random, int], str]  # makes a value of so many characters


def notices(kind: str, records: int, seed: int = 0) -> Iterator[Record]:
    """Generate records of a kind, with all its fields in wire order; "" stands for nothing.

    `bidNtceNo` and `bidNtceOrd` together are unique. Raises `UsageError` for an unknown kind or a
    negative count.
    """
    return chain.from_iterable(_chunks(kind, records, seed))


def write_sample(
    path: Path, kind: str, records: int, seed: int = 0, indent: int | None = None
) -> None:
    """Write the records as a JSON array in UTF-8, compact when `indent` is None.

    Memory does not grow with the records. The file appears under its name, in place of an older
    one, when it is complete. Raises `UsageError` as `notices` does.
    """
    _write(path, _array(_chunks(kind, records, seed), indent))


def sample_dir(root: Path, records: int, seed: int = 0, kind: str = "CNSTWK") -> Path:
    """A folder in `root` with one file of a sample, made the first time and then used again.

    Processes may ask for it at once: each makes the same file, the last one stays. Raises
    `UsageError` as `notices` does.
    """
    folder = root / f"v{VERSION}-{kind}-seed{seed}-{records}"
    chunks = _chunks(kind, records, seed)
    path = folder / file_name(kind)
    if not path.exists():
        _write(path, _array(chunks))
    return folder


def file_name(kind: str) -> str:
    """The name that a month's file of a kind has."""
    return f"{field_list().kinds[kind].file_prefix}{MONTH}.json"


def write_shipped(root: Path) -> None:
    """Write the files that come with pgload: every kind, and every shape that data comes in."""
    for kind, records, shape in (
        ("CNSTWK", 60, partial(_array, indent=2)),
        ("SERVC", 60, _reply),
        ("THNG", 100, _array),
        ("FRGCPT", 50, _lines),
        ("SCSBID", 60, partial(_array, indent=2)),
    ):
        _write(root / file_name(kind), shape(_chunks(kind, records, seed=0)))


# --- the lists beside this module ---


class Field(msgspec.Struct, frozen=True):
    """One field, as `fields.json` describes it; what was not measured or documented is None."""

    name: str
    logical: str
    max_length: int | None = None
    filled: float | None = None
    length_mean: float | None = None
    length_max: int | None = None
    distinct: int | None = None


class Kind(msgspec.Struct, frozen=True):
    """One kind of notice: how its files' names begin, and its fields in wire order."""

    file_prefix: str
    fields: tuple[Field, ...]


class FieldList(msgspec.Struct, frozen=True):
    """What the generator needs of `fields.json`."""

    measured_rows: int
    kinds: dict[str, Kind]


@cache
def field_list() -> FieldList:
    """The field list that comes with pgload, read once."""
    return msgspec.json.decode(Path(__file__).with_name("fields.json").read_bytes(), type=FieldList)


@cache
def pools() -> dict[str, Any]:
    """The words and values of `pools.toml`, read once; the comments there say what is what."""
    return tomllib.loads(Path(__file__).with_name("pools.toml").read_text("utf-8"))


# --- chunks of records ---


def _chunks(kind: str, records: int, seed: int) -> Iterator[list[Record]]:
    if kind not in KINDS:
        raise UsageError(f"unknown kind of notice {kind!r}: choose one of {', '.join(KINDS)}")
    if records < 0:
        raise UsageError(f"a sample of {records} records: ask for 0 or more")
    return _generate(kind, records, f"{seed}/{kind}")


def _generate(kind: str, records: int, sample: str) -> Iterator[list[Record]]:
    measured = {field.name: field for field in field_list().kinds[MEASURED].fields}
    fields = field_list().kinds[kind].fields
    field_values = {
        field.name: FieldValues(sample, measured.get(field.name, field)) for field in fields
    }
    for index, first in enumerate(range(0, records, ROWS)):
        keys = _keys(Random(f"{sample}/{index}"), KINDS.index(kind), first)
        values = {name: each.values(index, keys) for name, each in field_values.items()}
        for oddity in pools()["oddities"]:
            odd = values.get(oddity["field"], [])
            for row in range(oddity["first"], len(odd), oddity["every"]):
                odd[row] = oddity["form"].replace("{}", odd[row])
        rows = islice(zip(*values.values(), strict=True), records - first)
        yield [dict(zip(values, row, strict=True)) for row in rows]


def _keys(rng: Random, place: int, first: int) -> Keys:
    """A serial number, in no other chunk and no other kind, and a revision for each row."""
    keys, revision = Keys(), 0
    for row in range(first, first + ROWS):
        revision = revision + 1 if keys and rng.random() < REVISED else 0
        keys.append((FIRST_SERIAL + (row - revision) * len(KINDS) + place, revision))
    return keys


class FieldValues:
    """Makes the values of one field of a sample, a chunk at a time."""

    def __init__(self, sample: str, field: Field) -> None:
        family = field.name.rstrip("0123456789")
        self._name, self._family = f"{sample}/{field.name}", f"{sample}/{family}"
        self._template = TEMPLATES.get(field.name)
        if field.logical == "url" and not self._template:
            self._template = f"{DOCUMENT}&fileType=&fileSeq={field.name.removeprefix(family) or 1}"
        if field.filled is None:
            self._share = float(pools()["filled"].get(field.name, 1))
        else:  # a share that was rounded to 0 is still that of the distinct values
            self._share = field.filled or (field.distinct or 0) / field_list().measured_rows
        weights = pools()["values"].get(field.name, {})
        self._weights = list(accumulate(weights.values())) or None
        self._pool = tuple(weights)
        if self._share and not weights and not self._template:
            self._pool = _pool(field, Random(self._name))

    def values(self, index: int, keys: Keys) -> list[str]:
        """The field in the chunk with that index, whose rows have these keys."""
        column, rows = [""] * ROWS, list(range(ROWS))
        if self._share < 1:
            # One draw for a numbered family: its second field is filled only beside the first.
            draw = Random(f"{self._family}/{index}/filled").random
            rows = [row for row in rows if draw() < self._share]
        if self._template:
            drawn = [self._template.format(*keys[row]) for row in rows]
        else:
            rng = Random(f"{self._name}/{index}")
            drawn = rng.choices(self._pool, cum_weights=self._weights, k=len(rows))
        for row, value in zip(rows, drawn, strict=True):
            column[row] = value
        return column


# --- pools of values ---


def _pool(field: Field, rng: Random) -> tuple[str, ...]:
    """As many values as are distinct, up to `POOL`, with the field's lengths."""
    mean, longest = pools()["lengths"][field.logical]
    longest = field.length_max or min(longest, field.max_length or longest)
    mean = field.length_mean or min(mean, longest)
    count = min(field.distinct or POOL, POOL)
    mostly_zero = field.logical == "number" and mean < longest / 2
    make, lengths = _maker(field), _lengths(mean, longest, count, mostly_zero)
    return tuple(make(rng, length) for length in lengths)


def _maker(field: Field) -> Maker:
    for pattern, make in MAKERS.items():
        if re.search(pattern, f"{field.name} {field.logical}"):
            return make
    form = next(form for form in pools()["texts"] if re.search(form["name"], field.name))
    words = pools()["words"][form["words"]]
    return partial(_text, words=words, start=form.get("start", ""), ends=form.get("ends", [""]))


def _lengths(mean: float, longest: int, count: int, mostly_zero: bool) -> Iterator[int]:
    """So many lengths with this mean, some spread over a lower range, the others over an upper."""
    lower, upper = (0.7 * mean, mean), (mean, longest)
    if mostly_zero:
        lower, upper = (1, 1), (longest / 2, longest)
    low, high = (lower[0] + lower[1]) / 2, (upper[0] + upper[1]) / 2
    short = round(count * (high - mean) / (high - low))
    for (start, end), many in ((lower, short), (upper, count - short)):
        for step in range(many):
            yield int(start + (end - start) * (step + 0.5) / many + 0.5)


def _text(rng: Random, length: int, words: Sequence[str], start: str, ends: Sequence[str]) -> str:
    end = rng.choices(ends)[0].replace("#", str(1 + int(rng.random() * 2500)))
    length_left = max(length - len(start) - len(end), 2)
    chosen = rng.choices(words, k=length_left // 3 + 1)  # words have 2 characters or more
    return start + " ".join(chosen)[:length_left].rstrip() + end


def _digits(rng: Random, length: int) -> str:
    # Leading zeros: the codes and numbers are invented.
    return f"{int(rng.random() * 10_000):0{length}}"[-length:]


def _amount(rng: Random, length: int) -> str:
    """Won, with the few significant digits of estimates."""
    return f"{100 + int(rng.random() * 99_900)}"[:length].ljust(length, "0") if length > 1 else "0"


def _percent(rng: Random, length: int) -> str:
    text = f"{10 + int(rng.random() * 90)}.{int(rng.random() * 1000):03}"
    return "100" if length == 3 else text[:length]


def _datetime(rng: Random, length: int) -> str:
    """A time in the sample's month and office hours: a date, or to the minute, or to the second."""
    day, time = 1 + int(rng.random() * 30), int(rng.random() * 36_000)
    return f"2025-06-{day:02} {8 + time // 3600:02}:{time // 60 % 60:02}:{time % 60:02}"[:length]


def _person(rng: Random, _: int) -> str:
    return "".join(rng.choices(pools()["words"][part])[0] for part in ("surnames", "given_names"))


def _mail(rng: Random, length: int) -> str:
    letters = rng.choices("abcdefghijklmnopqrstuvwxyz", k=max(length - 14, 1))
    return "".join(letters) + "@example.go.kr"


# Makers by a field's name and type; the first match decides, before the texts of `pools.toml`.
MAKERS: dict[str, Maker] = {
    "(Ofcl|exctv|Ceo)Nm text": _person,
    "Tel(No)? text": lambda rng, _: f"02-0000-{_digits(rng, 4)}",
    "EmailAdrs text": _mail,
    "Bizrno text": lambda rng, _: f"000-{_digits(rng, 2)}-{_digits(rng, 5)}",
    "(Rgst|Unty|Bbanc)No text": lambda rng, _: f"R25BD{_digits(rng, 8)}",
    "(Cd|ClsfcNo) text": _digits,
    "Tm text": lambda rng, _: _datetime(rng, 16)[11:],
    "Rt[0-9]* text| percent": _percent,
    " number": _amount,
    " date": _datetime,  # and datetime
    " flag": lambda rng, _: rng.choices("YN")[0],
}


# --- files ---


def _array(chunks: Iterable[list[Record]], indent: int | None = None) -> Iterator[bytes]:
    """A JSON array, a chunk at a time; compact when `indent` is None."""
    before, end = b"[", b""
    for chunk in chunks:
        text = msgspec.json.encode(chunk)
        if indent is not None:
            text = msgspec.json.format(text, indent=indent)
        inside = text[1:-1].rstrip(b"\n")
        yield before + inside
        before, end = b",", text[1 + len(inside) : -1]
    yield before if before == b"[" else end
    yield b"]"


def _reply(chunks: Iterable[list[Record]]) -> Iterator[bytes]:
    """The reply of the service, with its records in `response.body.items`."""
    items = list(chain.from_iterable(chunks))
    header = {"resultCode": "00", "resultMsg": "정상"}
    body = {"items": items, "numOfRows": len(items), "pageNo": 1, "totalCount": len(items)}
    reply = msgspec.json.encode({"response": {"header": header, "body": body}})
    yield msgspec.json.format(reply, indent=2)


def _lines(chunks: Iterable[list[Record]]) -> Iterator[bytes]:
    """JSON Lines."""
    for chunk in chunks:
        yield b"".join(msgspec.json.encode(record) + b"\n" for record in chunk)


def _write(path: Path, parts: Iterable[bytes]) -> None:
    # Under another name until it is complete, so that a file with its own name is complete.
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            file.writelines(parts)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m pgload.sample.generator FOLDER (writes the files of data/)")
    write_shipped(Path(sys.argv[1]))

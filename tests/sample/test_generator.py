"""The generated notices: reproducible, and like the measured ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from pgload.errors import UsageError
from pgload.sample import generator as sample
from pgload.sample.generator import KINDS, Field, field_list, notices, sample_dir, write_sample
from tests.support.environment import ROOT

ENOUGH = 3000  # records for shares and means to settle

Records = list[dict[str, str]]


@pytest.fixture(scope="module")
def of_kind() -> dict[str, Records]:
    """The first records of each kind."""
    return {kind: list(notices(kind, ENOUGH)) for kind in KINDS}


@pytest.fixture(scope="module")
def construction(of_kind: dict[str, Records]) -> Records:
    """The kind whose fields were measured."""
    return of_kind["CNSTWK"]


def values(records: Records, name: str) -> list[str]:
    """The filled values of a field."""
    return [record[name] for record in records if record[name]]


def measured() -> list[Field]:
    """The fields of construction notices that were measured."""
    return [field for field in field_list().kinds["CNSTWK"].fields if field.filled is not None]


# --- the field list and the pools ---


def test_kinds_are_those_of_the_field_list() -> None:
    """The five kinds are listed in order, each with different field names."""
    kinds = field_list().kinds
    assert tuple(kinds) == KINDS
    for kind in kinds.values():
        names = [field.name for field in kind.fields]
        assert len(names) == len(set(names))


def test_sample_files_go_to_the_tables_of_their_kind() -> None:
    """The loader's mapping sends each kind's file to its table, with its key."""
    mapping = tomllib.loads((ROOT / "pgload" / "schema" / "tables.toml").read_text("utf-8"))
    listed = json.loads((ROOT / "pgload" / "sample" / "fields.json").read_text("utf-8"))
    for name, kind in listed["kinds"].items():
        rule = next(r for r in mapping["table"] if fnmatchcase(sample.file_name(name), r["files"]))
        assert (rule["name"], rule["key"]) == (kind["table"], kind["key"])
        assert set(kind["key"]) <= {field["name"] for field in kind["fields"]}


def test_pools_are_of_fields_that_exist() -> None:
    """No field of the pools is misspelt, and no words are missing or left over."""
    names = {field.name for kind in field_list().kinds.values() for field in kind.fields}
    pools = sample.pools()
    assert {
        *pools["values"],
        *pools["filled"],
        *(odd["field"] for odd in pools["oddities"]),
    } <= names
    used = {form["words"] for form in pools["texts"]} | {"surnames", "given_names"}
    assert used == set(pools["words"])


# --- reproducible ---


def test_version_is_raised_with_every_change_of_the_values() -> None:
    """A sample is what it was in this version; if this fails on purpose, raise `VERSION` too."""
    digest = sha256()
    for kind in KINDS:
        digest.update(msgspec.json.encode(list(notices(kind, 1500, seed=7))))
    assert (sample.VERSION, digest.hexdigest()[:16]) == (2, "cc5e93e01fe4994f")


def test_seed_decides() -> None:
    """Another seed gives other records of the same form."""
    one, other = (list(notices("THNG", 50, seed)) for seed in (1, 2))
    assert one == list(notices("THNG", 50, 1))
    assert all(mine != theirs for mine, theirs in zip(one, other, strict=True))
    assert [*one[0]] == [*other[0]]


def test_hash_seed_and_locale_do_not_matter(tmp_path: Path) -> None:
    """Another process with another hash seed and locale makes the same bytes."""
    code = (
        "import sys, pathlib; from pgload.sample.generator import write_sample; "
        "write_sample(pathlib.Path(sys.argv[1]), 'SERVC', 300, 5)"
    )
    environment = {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Seoul", "PYTHONUTF8": "0"}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "there.json")],
        check=True,
        cwd=ROOT,
        env=environment,
    )
    write_sample(tmp_path / "here.json", "SERVC", 300, 5)
    assert (tmp_path / "there.json").read_bytes() == (tmp_path / "here.json").read_bytes()


@pytest.mark.parametrize("records", [0, 1, 999, 1000, 1001])
def test_longer_sample_begins_with_the_shorter(of_kind: dict[str, Records], records: int) -> None:
    """Asking for more records only adds records."""
    assert list(notices("CNSTWK", records)) == of_kind["CNSTWK"][:records]


# --- what a record is ---


@pytest.mark.parametrize("kind", KINDS)
def test_records_have_all_fields_in_wire_order(of_kind: dict[str, Records], kind: str) -> None:
    """Every record has every field of its kind, in order, as a string of allowed length."""
    fields = field_list().kinds[kind].fields
    names = [field.name for field in fields]
    assert all(list(record) == names for record in of_kind[kind])
    for field in fields:
        column = [record[field.name] for record in of_kind[kind]]
        assert all(type(value) is str for value in column)
        assert max(map(len, column)) <= (field.max_length or sys.maxsize), field.name


@pytest.mark.parametrize("kind", KINDS)
def test_notice_number_and_order_are_a_key(of_kind: dict[str, Records], kind: str) -> None:
    """No two records share number and order; later orders repeat a number, after its first."""
    keys = [(record["bidNtceNo"], record["bidNtceOrd"]) for record in of_kind[kind]]
    assert len(set(keys)) == len(keys)
    assert 0.83 < len({number for number, _ in keys}) / len(keys) < 0.88  # measured: 8065 of 9443
    seen = Counter[str]()
    for number, order in keys:
        assert order == f"{seen[number]:03}"
        seen[number] += 1


def test_kinds_share_no_notice_number(of_kind: dict[str, Records]) -> None:
    """A notice is of one kind."""
    numbers = [{record["bidNtceNo"] for record in records} for records in of_kind.values()]
    assert len(set().union(*numbers)) == sum(map(len, numbers))


@pytest.mark.parametrize("kind", KINDS)
def test_values_have_the_form_of_their_type(of_kind: dict[str, Records], kind: str) -> None:
    """Flags are Y or N, times are times to the minute or the second, amounts are whole numbers."""
    forms = {
        "flag": "[YN]",
        "date": r"2025-06-[0-3]\d",
        "datetime": r"2025-06-[0-3]\d [01]\d:[0-5]\d(:[0-5]\d)?",
        "number": r"\d+|공고서에 의함.*",  # cmmnSpldmdCnum holds a number or a reference
        "percent": r"\d{1,3}|\d\d\.\d{1,3}",
        "url": r"https://www\.g2b\.go\.kr/\S+",
    }
    for field in field_list().kinds[kind].fields:
        form = forms.get(field.logical, r".*\S.*")
        filled = values(of_kind[kind], field.name)
        assert [value for value in filled if not re.fullmatch(form, value)] == [], field.name
    assert all(len(value) == 16 for value in values(of_kind["CNSTWK"], "bidQlfctRgstDt"))


def test_addresses_hold_the_notice_number(construction: Records) -> None:
    """A page and a document are those of their notice."""
    for record in construction:
        assert record["bidNtceNo"] in record["bidNtceDtlUrl"]
        assert record["bidNtceNo"] in (record["ntceSpecDocUrl2"] or record["bidNtceNo"])


@pytest.mark.parametrize("kind", KINDS)
def test_numbered_fields_are_filled_from_the_first(of_kind: dict[str, Records], kind: str) -> None:
    """In a numbered family an empty field is followed by empty ones only."""
    names = [field.name for field in field_list().kinds[kind].fields]
    numbered = [name for name in names if name[-1].isdigit()]
    pairs = [(a, b) for a, b in pairwise(numbered) if a.rstrip("0123456789") in b]
    assert all(record[a] or not record[b] for record in of_kind[kind] for a, b in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_personal_data(of_kind: dict[str, Records], kind: str) -> None:
    """People, telephones, mail addresses and registration numbers are ones that nobody has."""
    words = sample.pools()["words"]
    surnames, given_names = words["surnames"], words["given_names"]
    invented = {
        r"(Ofcl|exctv|Ceo)Nm$": "|".join(a + b for a in surnames for b in given_names),
        r"Tel(No)?$": r"02-0000-\d{4}",
        r"EmailAdrs$": r"[a-z]+@example\.go\.kr",
        r"Bizrno$": r"000-\d\d-\d{5}",
    }
    for name in of_kind[kind][0]:
        for pattern, form in invented.items():
            if re.search(pattern, name):
                filled = values(of_kind[kind], name)
                assert all(re.fullmatch(form, value) for value in filled), name
    text = msgspec.json.encode(of_kind[kind]).decode()
    assert set(re.findall(r"[\w.]+@[\w.]+", text)) == set(
        re.findall(r"[a-z]+@example\.go\.kr", text)
    )
    assert not re.search(r"(?<!\d)(010|0[2-6]\d?)-(?!0000-)\d{3,4}-\d{4}", text)


# --- as measured ---


def test_fields_are_filled_as_often_as_measured(construction: Records) -> None:
    """Each share of filled values is within two points of the measured one."""
    for field in measured():
        share = len(values(construction, field.name)) / ENOUGH
        assert share == pytest.approx(field.filled, abs=0.02), field.name


def test_values_are_as_long_as_measured(construction: Records) -> None:
    """Mean and greatest lengths of fields that are filled in one record of a hundred or more."""
    for field in measured():
        if field.filled and field.length_mean and field.filled >= 0.01:
            lengths = [len(value) for value in values(construction, field.name)]
            mean = sum(lengths) / len(lengths)
            assert mean == pytest.approx(field.length_mean, rel=0.1, abs=0.8), field.name
            if field.name not in {odd["field"] for odd in sample.pools()["oddities"]}:
                assert field.length_max is not None
                assert max(lengths) <= field.length_max, field.name


def test_values_vary_as_measured(construction: Records) -> None:
    """Few distinct values where few were measured, many where many were."""
    for field in measured():
        filled = values(construction, field.name)
        distinct, known = len(set(filled)), field.distinct or 0
        if known <= 50:
            assert distinct <= known, field.name
        elif known >= 1000 and len(filled) > 1000:
            assert distinct > 200, field.name


@pytest.mark.parametrize(
    ("oddity", "rate"),
    [("\t", 0.003), ("\u00a0", 0.006), ('"', 0.012), ("\\", 0.003), ("'", 0.03)],
)
def test_odd_characters_occur_but_rarely(construction: Records, oddity: str, rate: float) -> None:
    """What a loader can trip over is in the first records, as rare as in real ones."""
    odd = [any(oddity in value for value in record.values()) for record in construction]
    assert any(odd[:50])
    assert sum(odd) <= rate * ENOUGH


def test_titles_have_spaces_at_their_edges_but_rarely(construction: Records) -> None:
    """Some titles begin or end with a space."""
    titles = [record["bidNtceNm"] for record in construction]
    assert 0 < sum(title.startswith(" ") for title in titles) < 0.015 * ENOUGH
    assert 0 < sum(title.endswith(" ") for title in titles) < 0.03 * ENOUGH


@pytest.mark.parametrize("kind", KINDS)
def test_some_amounts_need_more_than_four_bytes(of_kind: dict[str, Records], kind: str) -> None:
    """Prices go beyond int4, and up to the largest seen in public data."""
    prices = [int(price) for price in values(of_kind[kind], "presmptPrce")]
    assert sum(price > 2**31 for price in prices) > 20
    assert max(prices) == 574_335_000_000_000


def test_construction_notices_have_the_size_of_the_measured_ones(construction: Records) -> None:
    """Filled fields and characters are those of the list; bytes those of Korean text."""
    filled = sum(field.filled or 0 for field in measured())
    characters = sum((field.filled or 0) * (field.length_mean or 0) for field in measured())
    made = [value for record in construction for value in record.values() if value]
    assert len(made) / ENOUGH == pytest.approx(filled, rel=0.02)
    assert sum(map(len, made)) / ENOUGH == pytest.approx(characters, rel=0.03)
    # The service's documented example has 1.47 bytes a character.
    assert 1.40 < sum(len(value.encode()) for value in made) / sum(map(len, made)) < 1.55


@pytest.mark.parametrize(
    ("kind", "size"),  # of the example that the service's guide gives
    [("CNSTWK", 4604), ("SERVC", 4360), ("THNG", 3542), ("FRGCPT", 3827)],
)
def test_records_have_the_size_of_real_ones(
    of_kind: dict[str, Records], kind: str, size: int
) -> None:
    """The mean size of a compact record, in bytes, is near that of a published one."""
    mean = len(msgspec.json.encode(of_kind[kind])) / ENOUGH
    assert mean == pytest.approx(size, rel=0.1 if kind == "CNSTWK" else 0.15)


# --- files ---


@pytest.mark.parametrize("indent", [None, 2, 4])
@pytest.mark.parametrize("records", [0, 1, 1000, 1001])
def test_file_is_one_array_in_utf8(tmp_path: Path, records: int, indent: int | None) -> None:
    """A file holds the records as one array, formatted as msgspec does it, Korean as it is."""
    path = tmp_path / "notices.json"
    write_sample(path, "SCSBID", records, indent=indent)
    text = msgspec.json.encode(list(notices("SCSBID", records)))
    assert path.read_bytes() == (msgspec.json.format(text, indent=indent) if indent else text)


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """Ten times the records need about the same memory."""
    peaks = []
    for records in (2000, 20_000):
        tracemalloc.start()
        write_sample(tmp_path / "notices.json", "SCSBID", records)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be finished has no name, and an older one stays."""
    path = tmp_path / "notices.json"
    write_sample(path, "SCSBID", 1)
    before = path.read_bytes()
    monkeypatch.setattr(sample.FieldValues, "values", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_sample(path, "SCSBID", 5)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, before)]


def test_sample_dir_is_made_once(tmp_path: Path) -> None:
    """The folder holds one file of construction notices with its real name, and is used again."""
    folder = sample_dir(tmp_path / "cache", 20, seed=3)
    (path,) = folder.iterdir()
    made = path.stat()
    assert path.name == "BidPublicInfoService_BID_CNSTWK_202506010000.json"
    assert msgspec.json.decode(path.read_bytes()) == list(notices("CNSTWK", 20, 3))
    assert sample_dir(tmp_path / "cache", 20, seed=3) == folder
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)


def test_sample_dir_depends_on_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed, count, kind or version of the generator is another folder."""
    folders = {sample_dir(tmp_path, 1), sample_dir(tmp_path, 2), sample_dir(tmp_path, 1, 9)}
    folders.add(sample_dir(tmp_path, 1, kind="SCSBID"))
    monkeypatch.setattr(sample, "VERSION", sample.VERSION + 1)
    folders.add(sample_dir(tmp_path, 1))
    assert len(folders) == 5


def test_sample_dir_may_be_made_by_several_at_once(tmp_path: Path) -> None:
    """Each of those that ask at the same time gets a complete file, and no other is left."""
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: sample_dir(tmp_path, 300), range(4)))
    ((path,),) = [list(folder.iterdir()) for folder in folders]
    assert msgspec.json.decode(path.read_bytes()) == list(notices("CNSTWK", 300))


def test_shipped_files_are_what_the_command_makes(tmp_path: Path) -> None:
    """`python -m pgload.sample.generator data` makes the files that are in `data`, to the byte."""
    command = [sys.executable, "-m", "pgload.sample.generator", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(made) == sorted(map(sample.file_name, KINDS))
    assert made == {name: (ROOT / "data" / name).read_bytes() for name in made}
    assert sum(map(len, made.values())) < 2_000_000


# --- mistakes ---


def test_command_without_a_folder_prints_its_usage() -> None:
    """The command wants one folder."""
    command = [sys.executable, "-m", "pgload.sample.generator"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: python -m pgload.sample.generator FOLDER")


def test_unknown_kind_is_a_usage_error(tmp_path: Path) -> None:
    """The kinds to choose from are named, before anything is made."""
    with pytest.raises(UsageError, match=r"'GOODS': choose one of CNSTWK, SERVC, THNG"):
        notices("GOODS", 1)
    with pytest.raises(UsageError, match="'GOODS'"):
        sample_dir(tmp_path, 1, kind="GOODS")
    assert not list(tmp_path.iterdir())


def test_negative_count_is_a_usage_error() -> None:
    """The count is named."""
    with pytest.raises(UsageError, match="-1 records"):
        notices("THNG", -1)

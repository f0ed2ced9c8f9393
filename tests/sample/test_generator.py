"""The generated notices: reproducible, coherent, and like the measured ones."""

from __future__ import annotations

import subprocess
import sys
import tomllib
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
from pgload.sample.fields import family, field_list
from pgload.sample.generator import KINDS, notices, sample_dir, write_sample

ROOT = Path(__file__).parents[2]
ENOUGH = 2000  # records for shares and means to settle

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


# --- the field list ---


def test_kinds_are_those_of_the_field_list() -> None:
    """The five kinds are listed in order, each with a key among its fields."""
    kinds = field_list().kinds
    assert tuple(kinds) == KINDS
    for kind in kinds.values():
        names = [field.name for field in kind.fields]
        assert len(names) == len(set(names))
        assert set(kind.key) <= set(names)


def test_sample_files_go_to_the_tables_of_their_kind() -> None:
    """The loader's mapping sends each kind's file to its table, with its key."""
    mapping = tomllib.loads((ROOT / "pgload" / "source" / "tables.toml").read_text("utf-8"))
    for name, kind in field_list().kinds.items():
        rule = next(r for r in mapping["table"] if fnmatchcase(sample.file_name(name), r["files"]))
        assert (rule["name"], tuple(rule["key"])) == (kind.table, kind.key)


# --- reproducible ---


def test_version_is_raised_with_every_change_of_the_values() -> None:
    """A sample is what it was in this version; if this fails on purpose, raise `VERSION` too."""
    digest = sha256()
    for kind in KINDS:
        digest.update(msgspec.json.encode(list(notices(kind, 1500, seed=7))))
    assert (sample.VERSION, digest.hexdigest()[:16]) == (1, "5a005c81f0750451")


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
    assert list(notices("THNG", records)) == of_kind["THNG"][:records]


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
    assert 0.80 < len({number for number, _ in keys}) / len(keys) < 0.90  # measured: 8065 of 9443
    seen = Counter[str]()
    for number, order in keys:
        assert order == f"{seen[number]:03}"
        seen[number] += 1


@pytest.mark.parametrize("kind", KINDS)
def test_values_have_the_form_of_their_type(of_kind: dict[str, Records], kind: str) -> None:
    """Flags are Y or N, dates are dates, to the minute or the second as measured."""
    for field in field_list().kinds[kind].fields:
        filled = values(of_kind[kind], field.name)
        if field.logical == "flag":
            assert set(filled) <= {"Y", "N"}, field.name
        elif field.logical == "date":
            assert all(len(value) == 10 for value in filled), field.name
        elif field.logical == "datetime":
            length = 16 if field.name == "bidQlfctRgstDt" else 19
            assert all(len(value) == length for value in filled), field.name


def test_people_and_companies_cannot_be_real(of_kind: dict[str, Records]) -> None:
    """Telephones, addresses and registration numbers are from ranges that nobody has."""
    for record in of_kind["CNSTWK"]:
        telephone = record["ntceInsttOfclTelNo"]
        assert telephone == "" or telephone.startswith("02-0000-")
        assert record["ntceInsttOfclEmailAdrs"].endswith("@example.go.kr")
    for record in of_kind["SCSBID"]:
        assert record["bidprcCorpBizrno"].startswith("000-")


# --- fields that belong together ---


@pytest.mark.parametrize("kind", ["CNSTWK", "SERVC", "THNG", "FRGCPT"])
def test_times_are_in_order(of_kind: dict[str, Records], kind: str) -> None:
    """A notice comes before the bidding, which comes before the opening."""
    for record in of_kind[kind]:
        names = ("bidNtceDt", "bidBeginDt", "bidQlfctRgstDt", "bidClseDt", "opengDt")
        times = [record[name] for name in names if record[name]]
        assert all(earlier < later for earlier, later in pairwise(times)), times


def test_revision_repeats_its_notice(of_kind: dict[str, Records]) -> None:
    """A revision comes later, says why, and leaves alone what was not changed."""
    first: dict[str, dict[str, str]] = {}
    for record in of_kind["SERVC"]:
        notice = first.setdefault(record["bidNtceNo"], record)
        assert bool(record["chgNtceRsn"]) == (record["bidNtceOrd"] != "000")
        if record is not notice:
            assert record["bidNtceDt"] > notice["bidNtceDt"]
            for name in ("ntceInsttCd", "presmptPrce", "untyNtceNo", "ntceSpecFileNm1"):
                assert record[name] == notice[name]


def test_amounts_agree(of_kind: dict[str, Records]) -> None:
    """Tax is a tenth of the price, the budget is both, and the budget buys the quantity."""
    for record in of_kind["CNSTWK"]:
        assert int(record["VAT"]) == int(record["presmptPrce"]) // 10
        assert int(record["bdgtAmt"]) == int(record["presmptPrce"]) + int(record["VAT"])
    for record in of_kind["THNG"]:
        cost, budget = int(record["prdctUprc"]), int(record["asignBdgtAmt"])
        assert 0 <= budget - cost * int(record["prdctQty"]) < int(record["prdctQty"])


def test_some_amounts_need_more_than_four_bytes(construction: Records) -> None:
    """Prices go beyond int4, and once up to the largest seen in public data."""
    budgets = sorted(int(record["bdgtAmt"]) for record in construction)
    assert sum(budget > 2**31 for budget in budgets) > 20
    assert 574_000_000_000_000 < budgets[-1] <= 574_335_000_000_000


def test_documents_come_in_pairs_without_gaps(construction: Records) -> None:
    """A document has both a name and an address in its notice, and none follows a missing one."""
    for record in construction:
        addresses = [record[f"ntceSpecDocUrl{n}"] for n in range(1, 11)]
        names = [record[f"ntceSpecFileNm{n}"] for n in range(1, 11)]
        assert [bool(address) for address in addresses] == [bool(name) for name in names]
        assert all(record["bidNtceNo"] in address for address in addresses if address)
        assert record["bidNtceNo"] in record["bidNtceDtlUrl"]


@pytest.mark.parametrize("kind", KINDS)
def test_numbered_fields_are_filled_from_the_first(of_kind: dict[str, Records], kind: str) -> None:
    """In a numbered family an empty field is followed by empty ones only."""
    names = [field.name for field in field_list().kinds[kind].fields]
    pairs = [(a, b) for a, b in pairwise(names) if family(a) == family(b)]
    assert all(record[a] or not record[b] for record in of_kind[kind] for a, b in pairs)


@pytest.mark.parametrize(
    ("kind", "code", "name"),
    [
        ("CNSTWK", "ntceInsttCd", "ntceInsttNm"),
        ("THNG", "dminsttCd", "dminsttNm"),
        ("THNG", "dtilPrdctClsfcNo", "dtilPrdctClsfcNoNm"),
        ("SERVC", "pubPrcrmntClsfcNo", "pubPrcrmntClsfcNm"),
        ("SCSBID", "bidprcCorpBizrno", "bidprcCorpNm"),
        ("CNSTWK", "rgnLmtBidLocplcJdgmBssCd", "rgnLmtBidLocplcJdgmBssNm"),
    ],
)
def test_code_has_one_name(of_kind: dict[str, Records], kind: str, code: str, name: str) -> None:
    """A code stands for one name wherever it occurs."""
    names: dict[str, str] = {}
    for record in of_kind[kind]:
        assert names.setdefault(record[code], record[name]) == record[name]


def test_winner_is_the_bidder_unless_disqualified(of_kind: dict[str, Records]) -> None:
    """Who reached the floor won with that bid; who did not has a reason, and somebody else won."""
    for record in of_kind["SCSBID"]:
        won = record["sucsfYn"] == "Y"
        assert won == (float(record["bidprcRt"]) > float(record["sucsfLwstlmtRt"]))
        assert won == (record["dqlfctnRsn"] == "")
        assert not won or record["fnlSucsfAmt"] == record["bidprcAmt"]


# --- as measured ---


def test_fields_are_filled_as_often_as_measured(construction: Records) -> None:
    """Each share of filled values is within two points of the measured one."""
    for field in field_list().kinds["CNSTWK"].fields:
        if field.filled is not None:
            share = len(values(construction, field.name)) / ENOUGH
            assert share == pytest.approx(field.filled, abs=0.02), field.name


def test_values_are_as_long_as_measured(construction: Records) -> None:
    """Mean lengths of fields that are filled in one record of a hundred, or more often."""
    for field in field_list().kinds["CNSTWK"].fields:
        if field.filled and field.length_mean and field.filled >= 0.01:
            filled = values(construction, field.name)
            mean = sum(map(len, filled)) / len(filled)
            assert mean == pytest.approx(field.length_mean, rel=0.25, abs=1), field.name


def test_values_vary_as_measured(construction: Records) -> None:
    """Few distinct values where few were measured; (nearly) only distinct ones where many were."""
    fields = field_list()
    for field in fields.kinds["CNSTWK"].fields:
        distinct = len(set(values(construction, field.name)))
        if field.distinct is not None and field.distinct <= 12:
            assert distinct <= max(field.distinct, 16), field.name
        elif field.distinct and field.distinct > fields.measured_rows * 0.6:
            share = field.distinct / fields.measured_rows
            # The fewer records, the fewer repetitions.
            assert share - 0.12 < distinct / ENOUGH < share + 0.2, field.name


@pytest.mark.parametrize(
    ("oddity", "rate"),
    [("\t", 0.003), ("\u00a0", 0.006), ('"', 0.012), ("\\", 0.003), ("'", 0.03)],
)
def test_odd_characters_occur_but_rarely(construction: Records, oddity: str, rate: float) -> None:
    """What a loader can trip over is in the first records, as rare as in real ones."""
    odd = sum(any(oddity in value for value in record.values()) for record in construction)
    assert 1 <= odd <= rate * ENOUGH


def test_titles_have_spaces_at_their_edges_but_rarely(construction: Records) -> None:
    """Some titles begin or end with a space."""
    titles = [record["bidNtceNm"] for record in construction]
    assert 0 < sum(title.startswith(" ") for title in titles) < 30
    assert 0 < sum(title.endswith(" ") for title in titles) < 60


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("CNSTWK", 4300, 4800), ("THNG", 3300, 3700), ("SCSBID", 1000, 1300)]
)
def test_records_have_the_size_of_real_ones(
    of_kind: dict[str, Records], kind: str, low: int, high: int
) -> None:
    """The mean size of a compact record, in bytes, is that of the services' replies."""
    assert low < len(msgspec.json.encode(of_kind[kind])) / ENOUGH < high


# --- files ---


@pytest.mark.parametrize("indent", [None, 2, 4])
@pytest.mark.parametrize("records", [0, 1, 1000, 1001])
def test_file_is_one_array_in_utf8(tmp_path: Path, records: int, indent: int | None) -> None:
    """A file holds the records as one array, formatted as msgspec does it, Korean as it is."""
    path = tmp_path / "notices.json"
    write_sample(path, "SCSBID", records, indent=indent)
    text = msgspec.json.encode(list(notices("SCSBID", records)))
    assert path.read_bytes() == (msgspec.json.format(text, indent=indent) if indent else text)


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be finished has no name, and an older one stays."""
    path = tmp_path / "notices.json"
    write_sample(path, "SCSBID", 1)
    before = path.read_bytes()
    monkeypatch.setattr(sample, "columns", lambda _chunk: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_sample(path, "SCSBID", 5)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, before)]


def test_sample_dir_is_made_once(tmp_path: Path) -> None:
    """The folder holds one file with its real name, and is used again."""
    folder = sample_dir(tmp_path / "cache", 20, seed=3)
    (path,) = folder.iterdir()
    made = path.stat()
    assert path.name == "BidPublicInfoService_BID_THNG_202506010000.json"
    assert msgspec.json.decode(path.read_bytes()) == list(notices("THNG", 20, 3))
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
    """Whoever asks at the same time gets a complete file, and no other is left."""
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: sample_dir(tmp_path, 300), range(4)))
    ((path,),) = [list(folder.iterdir()) for folder in folders]
    assert msgspec.json.decode(path.read_bytes()) == list(notices("THNG", 300))


def test_shipped_files_are_what_the_command_makes(tmp_path: Path) -> None:
    """`python -m pgload.sample.generator data` makes the files that are in `data`, to the byte."""
    command = [sys.executable, "-m", "pgload.sample.generator", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(made) == sorted(map(sample.file_name, KINDS))
    assert made == {name: (ROOT / "data" / name).read_bytes() for name in made}
    assert sum(map(len, made.values())) < 2_000_000


# --- mistakes ---


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

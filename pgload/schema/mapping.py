"""Which table a file goes to, by `tables.toml` or its name, and column types from the values."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Raw

from pgload.errors import SourceError, UsageError
from pgload.schema.table import (
    MAX_COLUMNS,
    MAX_IDENTIFIER_BYTES,
    SERVER_COLUMNS,
    SYSTEM_COLUMNS,
    TEXT_TYPES,
    TYPES,
    Column,
    ColumnType,
    Table,
    snake_case,
)
from pgload.source.compression import plain_name
from pgload.source.reader import Format
from pgload.source.scan import Fields, fields_of
from pgload.source.stores import MAPPING_NAME

_QUOTED = re.compile(r'"([^"]+)"')
_ITEMS = re.compile(r'[^."\\]+(\.[^."\\]+)*')


Empty = Literal["null", "keep"]  # what an empty string becomes in a column of text


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a mapping file."""

    files: str  # a shell pattern for the file's name
    name: str  # of the table, or schema.table; in quotes, a dot is part of the name
    key: tuple[str, ...] = ()  # fields
    types: dict[str, ColumnType] = {}  # by field; those of the others come from the values
    infer: bool = True  # false: the others are text
    empty: Empty | dict[str, Empty] = "null"  # for all fields, or by field
    format: Literal["lines", "object"] | None = None  # as in `Format`
    items: str = ""  # the path of the list that holds the records, its keys between dots


class _Mapping(msgspec.Struct, forbid_unknown_fields=True):
    table: list[Rule]


def read_mapping(folder: Path) -> list[Rule]:
    """The rules of `folder/tables.toml`, if there is one, followed by pgload's own.

    Raises `UsageError` for a mapping file that cannot be read, is not TOML or has an unknown entry
    or type.
    """
    own = folder / MAPPING_NAME
    given = _rules(own) if os.path.lexists(own) else []
    return given + _rules(Path(__file__).with_name(MAPPING_NAME))


def _rules(path: Path) -> list[Rule]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to read a pipe might take forever
            raise UsageError(f"{path} is not a file: remove it, or write the mapping into one")
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8: convert it to UTF-8 first") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be read: {reason}; make it readable (chmod +r)") from None
    try:
        rules = msgspec.convert(tomllib.loads(text), _Mapping).table
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{path}: {error}; an entry has {', '.join(Rule.__struct_fields__)}, "
            f"and a type is one of {', '.join(TYPES)}"
        ) from None
    for rule in rules:
        if rule.name.count(".") > 1 and not _QUOTED.fullmatch(rule.name):
            raise UsageError(
                f'{path}: name = "{rule.name}" has more than a schema and a table: put a name '
                "that has a dot in quotes"
            )
        names = [each for each in _split(rule.name) if each is not None]
        for name in (*names, *rule.key, *rule.types):
            _identifier(name, path)
        if rule.items and not _ITEMS.fullmatch(rule.items):
            raise UsageError(
                f'{path}: items = "{rule.items}" is not the path of a list, such as "features" or '
                '"response.body.items"'
            )
        if rule.items and rule.format:
            raise UsageError(f'{path}: files = "{rule.files}" has items and format: choose one')
    return rules


def format_for(path: Path, rules: Iterable[Rule]) -> Format | None:
    """What the rules say of a file's format; None if that is nothing."""
    for rule in rules:
        if _is_meant(path, rule):
            items = tuple(rule.items.split(".")) if rule.items else ()
            return Format(rule.format, items) if rule.format or items else None
    return None


def table_for(path: Path, rules: Iterable[Rule]) -> tuple[Table, Rule | None]:
    """The table of a file, with only the rule's columns, and the rule that names it.

    Without a rule it has the file's name, with the digits at its end; see `name_tables`.
    """
    for rule in rules:
        if _is_meant(path, rule):
            columns = tuple(Column(name, type_) for name, type_ in rule.types.items())
            schema, name = _split(rule.name)
            return Table(name, columns, rule.key, schema), rule
    return Table(_identifier(snake_case(_stem(path)) or _stem(path), path)), None


def with_empty_strings(table: Table, rule: Rule | None) -> Table:
    """The table with the columns marked in which the rule keeps empty strings."""
    if rule is None or rule.empty == "null":
        return table

    def keeps(column: Column) -> bool:
        empty = rule.empty if isinstance(rule.empty, str) else rule.empty.get(column.source)
        return empty == "keep" and column.type.startswith(TEXT_TYPES)

    columns = [replace(column, keep_empty=keeps(column)) for column in table.columns]
    return replace(table, columns=tuple(columns))


def other_names(path: Path) -> list[Table]:
    """Tables that a file belongs to, if there are no table of its whole name and no rule for it.

    `orders_202501.json` belongs to a table orders, and `shop.orders.json` to shop.orders.
    """
    stems = dict.fromkeys((_stem(path), without_digits(path)))
    found = [Table(snake_case(stem) or stem) for stem in list(stems)[1:]]
    for stem in stems:
        schema, dot, name = stem.partition(".")
        if dot and schema and name:
            found.append(Table(name, schema=schema))
    return found


def without_digits(path: Path) -> str:
    """The file's name without the number or date at its end."""
    return re.sub(r"[\W_]*\d[\d\W_]*$", "", _stem(path)) or _stem(path)


def _stem(path: Path) -> str:
    """The file's name without the suffixes of its format and its compression."""
    return Path(plain_name(path)).stem


def _is_meant(path: Path, rule: Rule) -> bool:
    return any(fnmatchcase(name, rule.files) for name in (path.name, plain_name(path)))


def _split(name: str) -> tuple[str | None, str]:
    """Schema and table."""
    if quoted := _QUOTED.fullmatch(name):
        return None, quoted[1]
    schema, dot, table = name.partition(".")
    return (schema, table) if dot else (None, name)


def name_tables(files: Mapping[Path, Fields], rules: Iterable[Rule]) -> dict[Path, Table]:
    """The table of each file.

    Files whose names differ in a number or date at the end go to one table without it if their
    fields agree: each has at least half of the fewer fields in common with those before it.
    """
    rules, tables, groups = list(rules), dict[Path, Table](), defaultdict[str, list[Path]](list)
    for path in files:
        tables[path], rule = table_for(path, rules)
        if rule is None:
            groups[without_digits(path)].append(path)
    for name, paths in groups.items():
        if len(paths) > 1 and _agree([files[path] for path in paths]):
            table = Table(_identifier(snake_case(name) or name, paths[0]))
            tables |= dict.fromkeys(paths, table)
    return tables


def _agree(files: Iterable[Fields]) -> bool:
    known: set[str] = set()
    for fields in files:
        if 2 * len(known & fields.keys()) < min(len(known), len(fields)):
            return False
        known |= fields.keys()
    return True


def plan_tables(files: Mapping[Path, Iterable[Raw]], rules: Iterable[Rule]) -> dict[Path, Table]:
    """The table of each file, with a column for every field of the records of any of its files.

    Records may come from a generator. Raises `RecordError` for one that cannot be read, and
    otherwise as `plan_fields` does.
    """
    fields = {path: fields_of(path, records) for path, records in files.items()}
    return plan_fields(fields, rules)


def plan_fields(files: Mapping[Path, Fields], rules: Iterable[Rule]) -> dict[Path, Table]:
    """The table of each file, with a column for every field of any of the table's files.

    A column's type is the rule's, else that of the values. A file is omitted when no file of its
    table has a field. Raises `SourceError` for a field whose name cannot be a column's.
    """
    rules = list(rules)
    tables, all_fields = name_tables(files, rules), dict[tuple[str | None, str], Fields]()
    for path, fields in files.items():
        _, rule = table_for(path, rules)
        of_table = all_fields.setdefault((tables[path].schema, tables[path].name), {})
        for name, types in fields.items():
            known = of_table.setdefault(column_name(name, path), set())
            known.update(types if rule is None or rule.infer else {"text"})
    return {
        path: with_empty_strings(_with_columns(table, columns), table_for(path, rules)[1])
        for path, table in tables.items()
        if (columns := all_fields[table.schema, table.name])
    }


def _with_columns(table: Table, fields: Fields) -> Table:
    given = {column.name: column.type for column in table.columns}
    columns = tuple(
        Column(name, given.get(name) or _common_type(types)) for name, types in fields.items()
    )
    return replace(table, columns=columns)


def _common_type(found: set[str]) -> str:
    """The type that all values of a column fit; "" stands for values that do not show one."""
    found = found - {""}
    for narrow, wide in (("bigint", "numeric"), ("date", "timestamp")):
        if found == {narrow, wide}:
            return wide
    return found.pop() if len(found) == 1 else "text"


def check_width(table: Table, path: Path) -> None:
    """Raise `SourceError` for a table that has too many columns to be created; `path` is a file."""
    columns = SERVER_COLUMNS.keys() | {column.name for column in table.columns}
    if len(columns) > MAX_COLUMNS:
        raise SourceError(
            f"{path.name}: table {table.name} would have {len(columns):,} columns, and PostgreSQL "
            f"takes {MAX_COLUMNS:,}: put some of the fields into one nested object"
        )


def column_name(name: str, path: Path) -> str:
    """The name of a field, if a column may have it. Raises `SourceError` otherwise."""
    if name in SYSTEM_COLUMNS:
        raise SourceError(
            f"{path.name}: {name!r} cannot be a column, as PostgreSQL has one of that name in "
            "every table: rename the field"
        )
    return _identifier(name, path)


def _identifier(name: str, path: Path) -> str:
    """The name, if PostgreSQL takes it as it is; `path` is the file that it is from."""
    size = len(name.encode(errors="replace"))
    if not 0 < size <= MAX_IDENTIFIER_BYTES or "\0" in name:
        raise SourceError(
            f"{path.name}: {name[:40]!r} cannot be a name in PostgreSQL, which takes 1 to "
            f"{MAX_IDENTIFIER_BYTES} bytes and no NUL: rename it"
        )
    return name

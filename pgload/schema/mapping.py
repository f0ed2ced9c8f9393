"""Which table a file goes to, by `tables.toml` or its name, and column types from the values."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Raw

from pgload.errors import SourceError, UsageError
from pgload.schema.table import MAX_IDENTIFIER_BYTES, TYPES, Column, ColumnType, Table, snake_case
from pgload.source.reader import Format
from pgload.source.scan import Fields, fields_of

MAPPING_NAME = "tables.toml"
_ITEMS = re.compile(r'[^."\\]+(\.[^."\\]+)*')


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a mapping file."""

    files: str  # a shell pattern for the file's name
    name: str  # of the table
    key: tuple[str, ...] = ()  # fields
    types: dict[str, ColumnType] = {}  # by field; the others are text
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
        for name in (rule.name, *rule.key, *rule.types):
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
        if fnmatchcase(path.name, rule.files):
            items = tuple(rule.items.split(".")) if rule.items else ()
            return Format(rule.format, items) if rule.format or items else None
    return None


def table_for(path: Path, rules: Iterable[Rule]) -> tuple[Table, bool]:
    """The table of a file, with only the rule's columns, and whether a rule named it."""
    for rule in rules:
        if fnmatchcase(path.name, rule.files):
            columns = tuple(Column(name, type_) for name, type_ in rule.types.items())
            return Table(rule.name, columns, rule.key), True
    name = re.sub(r"[\W_]*\d[\d\W_]*$", "", path.stem) or path.stem  # without a trailing date
    return Table(_identifier(snake_case(name) or name, path)), False


def plan_tables(files: Mapping[Path, Iterable[Raw]], rules: Iterable[Rule]) -> dict[Path, Table]:
    """The table of each file, with a column for every field of the records of any of its files.

    Records may come from a generator. Raises `RecordError` for one that cannot be read, and
    otherwise as `plan_fields` does.
    """
    rules = list(rules)
    fields = {
        path: fields_of(path, records, infer=not table_for(path, rules)[1])
        for path, records in files.items()
    }
    return plan_fields(fields, rules)


def plan_fields(files: Mapping[Path, Fields], rules: Iterable[Rule]) -> dict[Path, Table]:
    """The table of each file, with a column for every field of any of the table's files.

    A column's type is the rule's, text if the rule gives none, and that of the values without a
    rule. A file is omitted when no file of its table has a field. Raises `SourceError` for a field
    whose name cannot be a column's.
    """
    rules, all_fields, tables = list(rules), dict[str, Fields](), dict[Path, Table]()
    for path, fields in files.items():
        tables[path], by_rule = table_for(path, rules)
        of_table = all_fields.setdefault(tables[path].name, {})
        for name, types in fields.items():
            of_table.setdefault(_identifier(name, path), set()).update(() if by_rule else types)
    return {
        path: _with_columns(table, all_fields[table.name])
        for path, table in tables.items()
        if all_fields[table.name]
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
    if found == {"bigint", "numeric"}:
        return "numeric"
    return found.pop() if len(found) == 1 else "text"


def _identifier(name: str, path: Path) -> str:
    """The name, if PostgreSQL takes it as it is; `path` is the file that it is from."""
    size = len(name.encode(errors="replace"))
    if not 0 < size <= MAX_IDENTIFIER_BYTES or "\0" in name:
        raise SourceError(
            f"{path.name}: {name[:40]!r} cannot be a name in PostgreSQL, which takes 1 to "
            f"{MAX_IDENTIFIER_BYTES} bytes and no NUL: rename it"
        )
    return name

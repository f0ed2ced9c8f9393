"""The texts of charts, page and dashboard, in the languages of `i18n.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "ko")


class Words:
    """The texts in one language, looked up by key; values replace the names in braces."""

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def __call__(self, key: str, /, **values: object) -> str:
        text = _texts()[key][self.language]
        return text.format(**values) if values else text

    def maybe(self, key: str, otherwise: str) -> str:
        """The text of a key that comes from data, such as a bottleneck; `otherwise` if unknown."""
        return self(key) if key in _texts() else otherwise


@cache
def _texts() -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = tomllib.loads(
        Path(__file__).with_name("i18n.toml").read_text("utf-8")
    )
    return texts

"""The dashboard over folders of the test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.dashboard.serve import SCRIPT
from pgload.report.i18n import Words
from tests.support.dashboard import Show, checked

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """A function that opens a tab over the test's folders `out`, `data` and `saved`."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="Streamlit is not installed")
    options = ["--output-dir", tmp_path / "out", "--data", tmp_path / "data"]
    options += ["--storage", tmp_path / "saved"]

    def open_tab(tab: str = "migration", language: str = "en") -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app.py", *map(str, options), "--lang", language])
        app: AppTest = testing.AppTest.from_file(SCRIPT, default_timeout=60)
        app.session_state["tab"] = Words(language)(tab)
        return checked(app.run())

    return open_tab

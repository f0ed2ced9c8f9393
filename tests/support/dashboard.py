"""What a test reads from the dashboard without a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

TABS = ("migration", "comparison", "detail")
HOSTILE = "![x](http:127.0.0.1)<img src=x onerror=alert(1)> :red[y] $z$ **b**.json"

Show = Callable[..., "AppTest"]


def checked(app: AppTest) -> AppTest:
    """The page, after checking that it shows no exception."""
    assert not app.exception, [each.value for each in app.exception]
    return app


def visible_text(app: AppTest) -> str:
    """All texts of a page."""
    kinds = ("info", "warning", "error", "success", "markdown", "caption", "text")
    lines = [each.value for kind in kinds for each in getattr(app, kind)]
    return "\n".join(lines).replace("\\", "")


def metrics(app: AppTest) -> dict[str, str]:
    """The numbers by their labels."""
    return {each.label: each.value for each in app.metric}


def column(app: AppTest, name: str, table: int = 0) -> list[Any]:
    """A column of one of the tables that have it."""
    found = [each.value for each in app.dataframe if name in each.value]
    return list(found[table][name])

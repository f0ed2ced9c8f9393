"""The dashboard: a running migration, a comparison of clouds, details. It only reads files.

    python -m pgload dashboard
    streamlit run pgload/dashboard/app.py

Streamlit runs this script from the top for every change on the page. `.streamlit/config.toml`
beside it configures its server.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
if __name__ == "__main__":
    # Streamlit puts the script's folder into the path, where modules such as `details.py` would
    # hide those of other packages; the folder of the package `pgload` belongs there instead.
    sys.path[:] = [each for each in sys.path if Path(each or ".").resolve() != HERE.parent]
    if str(HERE.parents[2]) not in sys.path:
        sys.path.insert(0, str(HERE.parents[2]))

import streamlit as st  # noqa: E402

from pgload.contract import OUTPUT_DIR, STORAGE  # noqa: E402
from pgload.dashboard import comparison, details, migration  # noqa: E402
from pgload.dashboard.widgets import Sources  # noqa: E402
from pgload.report.i18n import LANGUAGES, Words  # noqa: E402

NAMES = {"en": "English", "ko": "한국어"}
TABS = {"migration": migration, "comparison": comparison, "detail": details}


def main() -> None:
    """Show the page."""
    options = _options()
    st.set_page_config(page_title="pgload", layout="wide")
    title, language = st.columns([4, 1], vertical_alignment="bottom")
    title.title("pgload")
    chosen = language.selectbox(
        "Language · 언어",
        LANGUAGES,
        index=LANGUAGES.index(options.lang or _browser_language()),
        format_func=NAMES.__getitem__,
        label_visibility="collapsed",
        key="language",
    )
    words = Words(chosen)
    sources = Sources(options.output_dir, options.data, options.storage, words)
    labels = [words(name) for name in TABS]
    _keep_tab(labels)
    tabs = st.tabs(labels, key="tab", on_change="rerun")
    for tab, name in zip(tabs, TABS, strict=True):
        if tab.open:  # the others are not computed
            with tab:
                TABS[name].show(sources)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="streamlit run app.py --")
    parser.add_argument("--output-dir", type=Path, default=OUTPUT_DIR)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--storage", type=Path, default=STORAGE)
    parser.add_argument("--lang", choices=LANGUAGES)
    return parser.parse_args()


def _browser_language() -> str:
    """The language of the browser if there are words in it, otherwise English."""
    language = (st.context.locale or "")[:2].lower()
    return language if language in LANGUAGES else LANGUAGES[0]


def _keep_tab(labels: list[str]) -> None:
    """Stay on the tab when the language changes: Streamlit identifies tabs by their labels."""
    open_tab = st.session_state.get("tab")
    if open_tab not in labels:
        for language in LANGUAGES:
            names = [Words(language)(name) for name in TABS]
            if open_tab in names:
                st.session_state["tab"] = labels[names.index(open_tab)]


if __name__ == "__main__":
    main()

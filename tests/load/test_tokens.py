"""Lines of tokens are searched and changed as a whole; needs no server."""

from __future__ import annotations

import pytest

from pgload.load.tokens import all_in_quotes, is_plain, without_quotes


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        (b'"a"\x1f""\x1fnull\x1f1.5\x1ftrue', True),
        (b'"{"\x1f"a[0]"', True),
        (b'"a\\n"', False),
        (b'{"k":1}\x1f""', False),
        (b'""\x1f[1]', False),
        (b'"x"\n[1]', False),
        (b'"x"),([1]', False),
    ],
)
def test_is_plain(line: bytes, plain: bool) -> None:
    """Plain lines have no backslash and no token that is an object or an array."""
    assert is_plain(line) is plain


def test_quotes() -> None:
    """All quotes are removed, or all tokens are put in quotes; null is nothing in both."""
    strings, mixed = b'"a"\x1f""\n"null"\x1f"b"', b'"a"\x1fnull\n1.5\x1f"null"'
    assert without_quotes(strings, 4) == b"a\x1f\nnull\x1fb"
    assert all_in_quotes(strings, 4) == strings
    assert without_quotes(mixed, 4) == b"a\x1f\n1.5\x1fnull"
    assert all_in_quotes(mixed, 4) == b'"a"\x1f""\n"1.5"\x1f"null"'

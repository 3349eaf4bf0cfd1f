"""Test the helpers of errors that a user can fix."""

import pytest

from hf_videomae.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (OSError("\n  one \ntwo"), "one"),
        (KeyError(), "KeyError"),
        (OSError(""), "OSError"),
    ],
)
def test_first_line_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line

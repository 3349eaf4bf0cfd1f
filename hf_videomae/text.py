"""Escape names from file systems and strangers before they are printed or written."""

import io
import sys
import unicodedata


def escape_non_utf8(text: str) -> str:
    """Return a path or name as UTF-8 text: `\\xe9` stands for an invalid byte, as names on a disk may hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_utf8(path: str | None, *, name: str) -> None:
    """Raise ValueError for a path that is not UTF-8, which safetensors can neither read nor write.

    Args:
        path: path of a folder of weights; None is accepted.
        name: name of the path in the error.
    """
    if path is not None and escape_non_utf8(path) != path:
        raise ValueError(
            f"{name} {escape_non_utf8(path)} is not UTF-8, and weights cannot be stored under such a name; rename the "
            f"folder, or give another"
        )


def escape_unencodable_stdout() -> None:
    """Let stdout escape the characters that it cannot encode, instead of raising.

    Names of files may hold any bytes, and a terminal need not know every script.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


# Line breaks of Unicode, and marks that reverse the direction of what follows.
_INVISIBLE_CHARACTERS = frozenset(
    "\u2028\u2029\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


def escape_control_characters(text: str) -> str:
    """Return a text in which nothing moves the cursor, or colors or reverses what follows; line breaks and tabs stay.

    Control characters and halves of characters become escapes, such as `\\x1b`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape_character(character) for character in text)


def _escape_character(character: str) -> str:
    is_control = unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
    return ascii(character)[1:-1] if is_control or character in _INVISIBLE_CHARACTERS else character

"""Write the Markdown of cards: sections, tables, code, and a checksum that tells whether a card was edited."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..run_files import write_atomic
from ..text import escape_non_utf8

CARD_FILE = "README.md"

_CHECKSUM_MARK = "<!-- written by hf-videomae card; "


class CardError(ValueError):
    """Raise when a card cannot be written; the message says why and what to do."""


def code_block(text: str, language: str = "python") -> str:
    """Return a fenced code block, between enough backticks for those that the text contains."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def section(title: str, *paragraphs: str | None) -> str | None:
    """Return a section of a card, or None if all its paragraphs are empty."""
    nonempty = [paragraph for paragraph in paragraphs if paragraph]
    return "\n\n".join([f"## {title}", *nonempty]) if nonempty else None


def join_card(header: str, parts: Iterable[str | None]) -> str:
    """Return a whole card: its header and the parts that are not empty."""
    return "\n\n".join([f"---\n{header.strip()}\n---", *filter(None, parts)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str | None:
    """Return a table, or None if it has no rows."""
    lines = [" | ".join(_escape_cell(value) for value in row) for row in rows]
    if not lines:
        return None
    return "\n".join(f"| {line} |" for line in (" | ".join(head), " | ".join("---" for _ in head), *lines))


def _escape_cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def details_block(title: str, *paragraphs: str | None) -> str:
    """Return a block that is folded until the reader opens it."""
    return "\n\n".join([f"<details><summary>{title}</summary>", *filter(None, paragraphs), "</details>"])


# The checksum.


def with_checksum(card: str) -> str:
    """Return a card with the checksum of its text at the end."""
    text = escape_non_utf8(card.rstrip("\n") + "\n\n")
    return f"{text}{_CHECKSUM_MARK}{_checksum(text)} -->\n"


def without_checksum(card: str) -> str:
    """Return a card without its checksum."""
    body, mark, _ = card.rpartition(_CHECKSUM_MARK)
    return f"{body.rstrip()}\n" if mark else card


def is_unedited(card: str) -> bool:
    """Return whether a card is unchanged since `with_checksum` returned it."""
    body, mark, digest = card.rpartition(_CHECKSUM_MARK)
    return bool(mark) and digest.strip() == f"{_checksum(body)} -->"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_readme(folder: str | Path, card: str, *, overwrite: bool = False) -> Path:
    """Write README.md, unless there is one that a person wrote or edited.

    Args:
        folder: the folder of the model or dataset.
        card: a result of `with_checksum`.
        overwrite: replace that one, too.

    Raises:
        CardError: when there is such a README.md.
    """
    path = Path(folder) / CARD_FILE
    if not overwrite and path.exists() and not is_unedited(path.read_text(encoding="utf-8", errors="replace")):
        raise CardError(f"{path} was edited, or is not of this command; --overwrite replaces it")
    write_atomic(path, card)
    return path

"""A card as text: sections, tables, code, and a mark by which an edited card is known."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..records import readable, write_whole

CARD_FILE = "README.md"

_MARK = "<!-- written by hf-videomae card; "


class CardError(ValueError):
    """A card cannot be written; the message says why and what to do."""


def code(text: str, language: str = "python") -> str:
    """A fenced block."""
    return f"```{language}\n{text.rstrip()}\n```"


def section(title: str, *paragraphs: str | None) -> str | None:
    """A section of a card; None where nothing is in it."""
    filled = [paragraph for paragraph in paragraphs if paragraph]
    return "\n\n".join([f"## {title}", *filled]) if filled else None


def document(header: str, parts: Iterable[str | None]) -> str:
    """A whole card of its header and those parts that have something to say."""
    return "\n\n".join([f"---\n{header.strip()}\n---", *filter(None, parts)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str | None:
    """A table; None without a row."""
    lines = [" | ".join(_cell(value) for value in row) for row in rows]
    if not lines:
        return None
    return "\n".join(f"| {line} |" for line in (" | ".join(head), " | ".join("---" for _ in head), *lines))


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def folded(title: str, *paragraphs: str | None) -> str:
    """Paragraphs that a reader opens."""
    return "\n\n".join([f"<details><summary>{title}</summary>", *filter(None, paragraphs), "</details>"])


# Whether a person has edited it.


def signed(card: str) -> str:
    """The card with the mark of its text."""
    text = readable(card.rstrip("\n") + "\n\n")
    return f"{text}{_MARK}{_digest(text)} -->\n"


def unsigned(card: str) -> str:
    """The card without a mark."""
    body, mark, _ = card.rpartition(_MARK)
    return f"{body.rstrip()}\n" if mark else card


def is_untouched(card: str) -> bool:
    """Whether a card is as `signed` gave it."""
    body, mark, digest = card.rpartition(_MARK)
    return bool(mark) and digest.strip() == f"{_digest(body)} -->"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_card_file(folder: str | Path, card: str, *, overwrite: bool = False) -> Path:
    """Write README.md, but not over one that a person wrote or edited.

    Args:
        folder: of the card.
        card: by `signed`.
        overwrite: over that one, too.

    Raises:
        CardError: when such a README.md is in the way.
    """
    path = Path(folder) / CARD_FILE
    if not overwrite and path.exists() and not is_untouched(path.read_text(encoding="utf-8", errors="replace")):
        raise CardError(f"{path} was edited, or is not of this command; --overwrite replaces it")
    write_whole(path, card)
    return path

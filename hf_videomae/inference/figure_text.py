"""Draw names that come from data in figures: no TeX, no line breaks, and a font that has their characters.

matplotlib reads text between two `$` as TeX, so a name such as `$\\frac{$` would raise an error, and its own font has
no Chinese, Japanese or Korean: such characters become boxes. An installed font that has them is added; a character
that no installed font has is written as its code point (`\\u4e2d`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..cards import escape_to_one_line
from ..credentials import redact_credentials

# Fonts made to cover nearly every character of their scripts; they are tried first.
_PAN_UNICODE_FONTS = (
    "noto",
    "cjk",
    "source han",
    "wenquanyi",
    "droid",
    "ipa",
    "nanum",
    "unifont",
    "arial unicode",
    "gothic",
)
# A font with a box for every character.
_LAST_RESORT_FONT = "last resort"
_MAX_TEXT_LENGTH = 80


@contextmanager
def figure_fonts(texts: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Let a figure that is drawn and saved within the block use fonts that have the characters of the texts.

    Args:
        texts: names from data that the figure will show.

    Yields:
        a function that escapes such a text, so that matplotlib shows it literally.
    """
    import matplotlib

    characters = {character for text in texts for character in _truncate_line(text)}
    base = list(matplotlib.rcParams["font.family"])
    names, missing = _covering_fonts(_non_ascii(characters))

    def escape_text(text: str) -> str:
        return _escape_missing(_truncate_line(text), missing).replace("$", r"\$")

    with matplotlib.rc_context({"font.family": [*base, *names]}):
        yield escape_text


def resolve_font(text: str) -> tuple[str, Path | None]:
    """Return a text on one line, and the file of a font that has all its characters; None if the result is ASCII."""
    line = _truncate_line(text)
    if line.isascii():
        return line, None
    try:
        from matplotlib import font_manager
    except ImportError:
        return _escape_missing(line, _non_ascii(line)), None
    needed = frozenset(character for character in line if not character.isspace())
    default_font = Path(font_manager.findfont(font_manager.FontProperties()))
    path = next((path for path in (default_font, *_font_files()) if needed <= _supported_characters(path)), None)
    return (line, path) if path is not None else (_escape_missing(line, _non_ascii(line)), None)


def _non_ascii(characters: Iterable[str]) -> frozenset[str]:
    return frozenset(character for character in characters if not character.isascii())


def _truncate_line(text: str) -> str:
    line = escape_to_one_line(redact_credentials(text))
    return line if len(line) <= _MAX_TEXT_LENGTH else f"{line[: _MAX_TEXT_LENGTH - 1]}…"


def _escape_missing(text: str, missing: Iterable[str]) -> str:
    return "".join(ascii(character)[1:-1] if character in missing else character for character in text)


@cache
def _covering_fonts(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return the names of fonts with the characters that matplotlib's own lacks, and the characters that none has."""
    from matplotlib import font_manager

    default_font = Path(font_manager.findfont(font_manager.FontProperties()))
    names, missing = [], characters - _supported_characters(default_font)
    for path in _font_files() if missing else ():
        covered = missing & _supported_characters(path)
        if covered:
            names.append(_registered_name(path))
            missing -= covered
        if not missing:
            break
    return names, missing


@cache
def _font_files() -> tuple[Path, ...]:
    """Return the fonts of this machine, broad ones first, with those installed after matplotlib built its list."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist if _LAST_RESORT_FONT not in entry.name.lower()}
    files = {Path(name) for name in (*known, *font_manager.findSystemFonts())}
    candidates = [
        path for path in files if _LAST_RESORT_FONT not in path.stem.lower().replace("lastresort", _LAST_RESORT_FONT)
    ]
    return tuple(
        sorted(candidates, key=lambda path: (not _is_pan_unicode(path), "regular" not in path.stem.lower(), str(path)))
    )


def _is_pan_unicode(path: Path) -> bool:
    return any(word in path.stem.lower().replace("-", " ") for word in _PAN_UNICODE_FONTS)


@cache
def _supported_characters(path: Path) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(path)).get_charmap()))
    except (RuntimeError, OSError):  # a font that FreeType does not read
        return frozenset()


@cache
def _registered_name(path: Path) -> str:
    """Register a font under a unique name, and return the name.

    Its family name does not do: two files may share it (matplotlib's DejaVu Sans and the system's newer one), and
    matplotlib would take the first.
    """
    from dataclasses import replace

    from matplotlib import font_manager

    entry = font_manager.ttfFontProperty(font_manager.get_font(str(path)))
    entry = replace(entry, fname=str(path), name=f"{entry.name} ({path})")
    font_manager.fontManager.ttflist.append(entry)
    return entry.name

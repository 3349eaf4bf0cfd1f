"""Names that come from data, as the text of pictures: no mathematics, no line breaks, in a font that has their signs.

matplotlib reads what stands between two `$` as TeX, which ends a picture at `$\\frac{$`, and its own font has no
Chinese, Japanese or Korean: such signs become boxes. An installed font that has them is taken beside it; a sign that
no font here has is written as its code point (`\\u4e2d`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..cards import escape_to_one_line
from ..credentials import redact_credentials

# Fonts made to have nearly every sign of their scripts; looked at before others.
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
# It has a box for every sign there is.
_LAST_RESORT_FONT = "last resort"
_MAX_TEXT_LENGTH = 80


@contextmanager
def figure_fonts(texts: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Draw and save a figure within this: its fonts have the signs of the texts.

    Args:
        texts: from data, as they will be shown.

    Yields:
        What makes of such a text one that matplotlib shows as it is.
    """
    import matplotlib

    characters = {character for text in texts for character in _truncate_line(text)}
    base = list(matplotlib.rcParams["font.family"])
    names, missing = _covering_fonts(frozenset(character for character in characters if not character.isascii()))

    def escape_text(text: str) -> str:
        return _escape_missing(_truncate_line(text), missing).replace("$", r"\$")

    with matplotlib.rc_context({"font.family": [*base, *names]}):
        yield escape_text


def resolve_font(text: str) -> tuple[str, Path | None]:
    """Return a text on one line, and the file of one font that has all its signs; None: the text is ASCII by then."""
    line = _truncate_line(text)
    if line.isascii():
        return line, None
    try:
        from matplotlib import font_manager
    except ImportError:
        return _escape_missing(line, {character for character in line if not character.isascii()}), None
    wanted = frozenset(character for character in line if not character.isspace())
    default_font = Path(font_manager.findfont(font_manager.FontProperties()))
    path = next((path for path in (default_font, *_font_files()) if wanted <= _supported_characters(path)), None)
    return (line, path) if path is not None else (_escape_missing(line, {s for s in line if not s.isascii()}), None)


def _truncate_line(text: str) -> str:
    line = escape_to_one_line(redact_credentials(text))
    return line if len(line) <= _MAX_TEXT_LENGTH else f"{line[: _MAX_TEXT_LENGTH - 1]}…"


def _escape_missing(text: str, missing: Iterable[str]) -> str:
    return "".join(ascii(character)[1:-1] if character in missing else character for character in text)


@cache
def _covering_fonts(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The names of fonts that have the signs which matplotlib's own lacks, and the signs that none of them has."""
    from matplotlib import font_manager

    default_font = Path(font_manager.findfont(font_manager.FontProperties()))
    names, missing = [], characters - _supported_characters(default_font)
    for path in _font_files() if missing else ():
        found = missing & _supported_characters(path)
        if found:
            names.append(_registered_name(path))
            missing -= found
        if not missing:
            break
    return names, missing


@cache
def _font_files() -> tuple[Path, ...]:
    """The fonts of this machine, those with many signs first; installed after matplotlib looked for them, too."""
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
    """Register a font under a name of its own, and return the name.

    Its family name is not enough: two files may share it (matplotlib's DejaVu Sans and the system's newer one), and
    matplotlib would take the first.
    """
    from dataclasses import replace

    from matplotlib import font_manager

    entry = font_manager.ttfFontProperty(font_manager.get_font(str(path)))
    entry = replace(entry, fname=str(path), name=f"{entry.name} ({path})")
    font_manager.fontManager.ttflist.append(entry)
    return entry.name

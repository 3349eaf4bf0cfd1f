"""Names that come from data, as the text of pictures: no mathematics, no line breaks, in a font that has their signs.

matplotlib reads what stands between two `$` as TeX, which ends a picture at `$\\frac{$`, and its own font has no
Chinese, Japanese or Korean: such signs become boxes. An installed font that has them is taken beside it; a sign that
no font here has is written as its code point (`\\u4e2d`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..cards import one_line
from ..records import without_credentials

# Fonts made to have nearly every sign of their scripts; looked at before others.
_BROAD = ("noto", "cjk", "source han", "wenquanyi", "droid", "ipa", "nanum", "unifont", "arial unicode", "gothic")
# It has a box for every sign there is.
_NO_FONT = "last resort"
_MOST = 80


@contextmanager
def figure_fonts(texts: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Draw and save a figure within this: its fonts have the signs of the texts.

    Args:
        texts: from data, as they will be shown.

    Yields:
        What makes of such a text one that matplotlib shows as it is.
    """
    import matplotlib

    signs = {sign for text in texts for sign in _shortened(text)}
    base = list(matplotlib.rcParams["font.family"])
    names, missing = _covering(frozenset(sign for sign in signs if not sign.isascii()))

    def shown(text: str) -> str:
        return _escaped(_shortened(text), missing).replace("$", r"\$")

    with matplotlib.rc_context({"font.family": [*base, *names]}):
        yield shown


def picture_font(text: str) -> tuple[str, Path | None]:
    """Return a text on one line, and the file of one font that has all its signs; None: the text is ASCII by then."""
    line = _shortened(text)
    if line.isascii():
        return line, None
    try:
        from matplotlib import font_manager
    except ImportError:
        return _escaped(line, {sign for sign in line if not sign.isascii()}), None
    wanted = frozenset(sign for sign in line if not sign.isspace())
    own = Path(font_manager.findfont(font_manager.FontProperties()))
    path = next((path for path in (own, *_font_files()) if wanted <= _signs_of(path)), None)
    return (line, path) if path is not None else (_escaped(line, {s for s in line if not s.isascii()}), None)


def _shortened(text: str) -> str:
    line = one_line(without_credentials(text))
    return line if len(line) <= _MOST else f"{line[: _MOST - 1]}…"


def _escaped(text: str, missing: Iterable[str]) -> str:
    return "".join(ascii(sign)[1:-1] if sign in missing else sign for sign in text)


@cache
def _covering(signs: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The names of fonts that have the signs which matplotlib's own lacks, and the signs that none of them has."""
    from matplotlib import font_manager

    own = Path(font_manager.findfont(font_manager.FontProperties()))
    names, missing = [], signs - _signs_of(own)
    for path in _font_files() if missing else ():
        found = missing & _signs_of(path)
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

    known = {entry.fname for entry in font_manager.fontManager.ttflist if _NO_FONT not in entry.name.lower()}
    files = {Path(name) for name in (*known, *font_manager.findSystemFonts())}
    kept = [path for path in files if _NO_FONT not in path.stem.lower().replace("lastresort", _NO_FONT)]
    return tuple(sorted(kept, key=lambda path: (not _is_broad(path), "regular" not in path.stem.lower(), str(path))))


def _is_broad(path: Path) -> bool:
    return any(word in path.stem.lower().replace("-", " ") for word in _BROAD)


@cache
def _signs_of(path: Path) -> frozenset[str]:
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

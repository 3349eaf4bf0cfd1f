"""Reduce torchcodec's report of a failed import to the one line that matters.

torchcodec carries one set of libraries per FFmpeg version, tries them all, and reports all failures in a text of a
hundred lines that opens by blaming FFmpeg. Most of these failures only say that another FFmpeg version is not
installed; the real one is that of the version that is, and often it is not about FFmpeg at all.
"""

import ctypes
import re

_SECTION = re.compile(r"^[ \t]*FFmpeg version (\d+):(.*?)(?=^[ \t]*FFmpeg version \d+:|\[end of lib|\Z)", re.M | re.S)
# The first error of a chain is the loader's own; the later ones only say which file was being loaded.
_ERROR = re.compile(r"^\s*[\w.]*(?:Error|Exception): (.+)$", re.M)
_OTHER_FFMPEG = re.compile(r"libavutil\S* cannot open shared object|Library not loaded: \S*libavutil")
_PATH_ONLY = re.compile(r"Could not load this library: (.+)")


def parse_load_errors(report: str) -> dict[int, str]:
    """Return, by FFmpeg's major version, why torchcodec could not be loaded; empty for any other message."""
    return {int(version): _first_error(section) for version, section in _SECTION.findall(report)}


def summarize_load_error(report: str) -> str:
    """Return in one line why torchcodec cannot be loaded on this machine.

    Args:
        report: the message of the exception that `import torchcodec` raised.

    Returns:
        The error with the FFmpeg version that is installed, `no FFmpeg libraries are found ...` if none is, or
        the message itself in one line if it has another form.
    """
    errors = parse_load_errors(report)
    if not errors:
        return " ".join(report.split())[:300]
    real = {version: error for version, error in errors.items() if not _OTHER_FFMPEG.search(error)}
    if not real:
        return f"no FFmpeg libraries are found; torchcodec tried versions {min(errors)} to {max(errors)}"
    version, error = next(iter(real.items()))
    return f"{error} (with FFmpeg {version})" if len(real) == 1 else error


def _first_error(section: str) -> str:
    match = _ERROR.search(section)
    line = " ".join((match.group(1) if match else section).split())
    only_a_file = _PATH_ONLY.fullmatch(line)
    return (_query_loader(only_a_file.group(1)) if only_a_file else None) or line


def _query_loader(library: str) -> str | None:
    """Return what the system's loader says of a library; some releases of torchcodec report its path alone."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return None

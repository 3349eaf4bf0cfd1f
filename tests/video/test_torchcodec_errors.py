"""Test how the real cause is found in torchcodec's report, as each release writes it."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_videomae.video._torchcodec_errors import parse_load_errors, summarize_load_error

ABSENT = "{lib}: cannot open shared object file: No such file or directory"
AVUTIL = {8: "libavutil.so.60", 7: "libavutil.so.59", 6: "libavutil.so.58", 5: "libavutil.so.57", 4: "libavutil.so.56"}


def report(errors: dict[int, str]) -> str:
    """Return a report as torchcodec 0.11 and later write it: two chained errors per version, the loader's first."""
    sections = [
        f"""FFmpeg version {version}:
Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/torch/_ops.py", line 1516, in load_library
    ctypes.CDLL(path)
  File "/usr/lib/python3.12/ctypes/__init__.py", line 379, in __init__
    self._handle = _dlopen(self._name, mode)
                   ^^^^^^^^^^^^^^^^^^^^^^^^^
OSError: {error}

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/torchcodec/_internally_replaced_utils.py", line 93, in load
    torch.ops.load_library(core_library_path)
OSError: Could not load this library: /venv/lib/python3.12/site-packages/torchcodec/libtorchcodec_core{version}.so
"""
        for version, error in errors.items()
    ]
    return f"""Could not load libtorchcodec. Likely causes:
          1. FFmpeg is not properly installed in your environment. We support
             versions 4, 5, 6, 7, and 8, and we attempt to load libtorchcodec
             for each of those versions. Errors for versions not installed on
             your system are expected; only the error for your installed FFmpeg
             version is relevant.
          3. Another runtime dependency; see exceptions below.

        The following exceptions were raised as we tried to load libtorchcodec:
        \n[start of libtorchcodec loading traceback]
{chr(10).join(sections)}[end of libtorchcodec loading traceback]."""


def absent(*versions: int) -> dict[int, str]:
    return {version: ABSENT.format(lib=AVUTIL[version]) for version in versions}


def test_missing_ffmpeg_is_named() -> None:
    message = report(absent(8, 7, 6, 5, 4))
    assert parse_load_errors(message) == absent(8, 7, 6, 5, 4)
    assert summarize_load_error(message) == "no FFmpeg libraries are found; torchcodec tried versions 4 to 8"


@pytest.mark.parametrize(
    "real",
    [
        "libnppicc.so.12: cannot open shared object file: No such file or directory",
        "/venv/torchcodec/libtorchcodec_core6.so: undefined symbol: _ZN3c1013MessageLoggerC1EPKciib",
        "libavdevice.so.60: cannot open shared object file: No such file or directory",
        "/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by libavutil.so.58)",
    ],
)
def test_error_of_the_installed_ffmpeg_is_chosen(real: str) -> None:
    errors = {version: real if version == 6 else error for version, error in absent(8, 7, 6, 5, 4).items()}
    assert summarize_load_error(report(errors)) == f"{real} (with FFmpeg 6)"


def test_library_missing_for_all_versions_is_named_once() -> None:
    real = ABSENT.format(lib="libcudart.so.13")
    assert summarize_load_error(report(dict.fromkeys(AVUTIL, real))) == real


def test_older_releases_with_one_line_per_version_are_parsed() -> None:
    errors = {**absent(8, 7, 5, 4), 6: "undefined symbol: x"}
    lines = "\n".join(f"        FFmpeg version {version}: {error}" for version, error in errors.items())
    message = (
        f"Could not load libtorchcodec.\n[start of libtorchcodec loading traceback]\n{lines}\n[end of libtorchcodec"
    )
    assert parse_load_errors(message) == errors
    assert summarize_load_error(message) == "undefined symbol: x (with FFmpeg 6)"


def test_report_with_a_path_alone_asks_the_loader(tmp_path) -> None:  # type: ignore[no-untyped-def]
    library = tmp_path / "libtorchcodec_core8.so"
    library.write_bytes(b"no library")
    message = (
        f"[start of libtorchcodec loading traceback]\n FFmpeg version 8: Could not load this library: {library}\n"
    )
    assert str(library) in summarize_load_error(message) and "Could not load this library" not in summarize_load_error(
        message
    )


def test_macos_messages_are_parsed() -> None:
    missing = "dlopen(libtorchcodec_core8.dylib, 0x0006): Library not loaded: @rpath/libavutil.60.dylib"
    message = report({8: missing, 7: "Symbol not found: __ZN3c10"})
    assert summarize_load_error(message) == "Symbol not found: __ZN3c10 (with FFmpeg 7)"


def test_other_messages_stay_in_one_line() -> None:
    assert summarize_load_error("No module named 'torchcodec'") == "No module named 'torchcodec'"
    assert summarize_load_error("several\n  lines") == "several lines"


# torchcodec 0.16 and later: the package is imported without FFmpeg, and raises at the first video

LAZY = """
import sys, types
def fails():
    try:
        raise OSError({report!r})
    except OSError as error:
        raise RuntimeError({message!r}) from error
core = types.ModuleType("torchcodec._core")
core.get_next_frame = core.get_ffmpeg_library_versions = lambda *arguments: fails()
decoders = types.ModuleType("torchcodec.decoders")
decoders.VideoDecoder = lambda *arguments, **options: fails()
package = types.ModuleType("torchcodec")
sys.modules |= {{"torchcodec": package, "torchcodec._core": core, "torchcodec.decoders": decoders, "av": None}}
from hf_videomae.video import _torchcodec
from hf_videomae.video.decoding import VideoBackendError, VideoDecodeError, open_video
{before}
try:
    open_video(sys.argv[1])
except (VideoBackendError, VideoDecodeError) as error:
    print(type(error).__name__, error)
"""
CLIP = Path(__file__).resolve().parents[2] / "hf_videomae" / "doctor" / "clip.mp4"


@pytest.mark.fault
@pytest.mark.parametrize("before", ["", "_torchcodec.why_missing = lambda: None"], ids=["at a probe", "at a video"])
@pytest.mark.parametrize("in_message", [True, False], ids=["in its message", "in its cause"])
def test_torchcodec_without_ffmpeg_is_a_missing_backend(before: str, in_message: bool) -> None:
    real = "libavdevice.so.60: cannot open shared object file: No such file or directory"
    full = report({**absent(8, 7, 5, 4), 6: real})
    message = full if in_message else "Could not load libtorchcodec."
    code = LAZY.format(report="inner" if in_message else full, message=message, before=before)
    done = subprocess.run([sys.executable, "-c", code, CLIP], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("VideoBackendError ") and f"{real} (with FFmpeg 6)" in done.stdout
    assert len(done.stdout.splitlines()) == 1

"""Probe torch, the GPU, each decoder and the Hub by using them, in a process of their own.

A library built for another torch may crash while it loads, and a network may hang; neither must stop the doctor. Run
as `python -m hf_videomae.doctor.subprocess_probes NAME ...`; each answer is a line of JSON on stdout.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

TEST_CLIP = Path(__file__).with_name("clip.mp4")
HUB_TIMEOUT_SECONDS = 3.0
_CLIP_FRAMES = 8  # each brighter than the one before


def probe_torch() -> dict[str, Any]:
    """Return which torch this is and what it was built for, or why it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"error": str(error)}
    return {"error": None, "version": str(torch.__version__), "cuda": torch.version.cuda}


def probe_gpu() -> dict[str, Any]:
    """Return the devices that torch can use; if it was built for CUDA and can use none, why."""
    import torch

    if torch.accelerator.is_available():
        kind = str(torch.accelerator.current_accelerator())
        count = torch.accelerator.device_count()
        names = (
            [torch.cuda.get_device_name(device_index) for device_index in range(count)]
            if torch.cuda.is_available()
            else [kind]
        )
        return {"names": names, "error": None, "driver_cuda": _driver_cuda()}
    error = None
    if torch.version.cuda is not None:
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as failure:
            error = str(failure)
    return {"names": [], "error": error, "driver_cuda": _driver_cuda()}


def probe_imports() -> dict[str, Any]:
    """Import every public name of this package; return the first that fails and why."""
    import hf_videomae

    for name in hf_videomae.__all__:
        try:
            getattr(hf_videomae, name)
        except (ImportError, RuntimeError, OSError, AttributeError, TypeError) as error:
            return {"error": str(error) or type(error).__name__, "name": name}
    return {"error": None}


def probe_torchvision() -> dict[str, Any]:
    """Import torchvision, as transformers does if it is installed; return why that fails."""
    from .._dependencies import find_torchvision_error

    return {"error": find_torchvision_error()}


def probe_torchcodec() -> dict[str, Any]:
    """Return whether torchcodec loads, with which FFmpeg, and whether it decodes."""
    return _probe_decoder("torchcodec", module="torchcodec", ffmpeg_version="ffmpeg_major_version")


def probe_pyav() -> dict[str, Any]:
    """Return whether PyAV loads, with which FFmpeg, and whether it decodes."""
    return _probe_decoder("pyav", module="av", ffmpeg_version="ffmpeg_version_info")


def probe_hub() -> dict[str, Any]:
    """Return whether the Hub answers in time, and whose token it is. The token is sent to the Hub alone."""
    import huggingface_hub.constants  # noqa: F401  the time of the import must not count as network time

    answer: Future[dict[str, Any]] = Future()

    def send_request() -> None:
        try:
            answer.set_result(_query_hub())
        except BaseException as error:
            answer.set_exception(error)
            raise

    # Timeouts of a client do not cover name lookup; if that hangs, the daemon thread is left behind.
    Thread(target=send_request, daemon=True).start()
    try:
        return answer.result(timeout=2 * HUB_TIMEOUT_SECONDS)
    except TimeoutError:
        return {"error": f"no answer within {2 * HUB_TIMEOUT_SECONDS:.0f} s", "status": None, "user": None}


def _query_hub() -> dict[str, Any]:
    from huggingface_hub import constants, errors, get_session, get_token
    from huggingface_hub.utils import build_hf_headers

    token = get_token()
    url = f"{constants.ENDPOINT}/api/whoami-v2"
    try:
        answer = get_session().get(url, headers=build_hf_headers(token=token or False), timeout=HUB_TIMEOUT_SECONDS)
        user = answer.json().get("name") if answer.status_code == 200 else None
    except (errors.HTTPError, OSError, ValueError) as error:
        message = f"{type(error).__name__}: {error}" if _is_safe_to_show(str(error), token) else type(error).__name__
        return {"error": message, "status": None, "user": None}
    return {"error": None, "status": answer.status_code, "user": user}


def _is_safe_to_show(message: str, token: str | None) -> bool:
    """Return whether an error cannot hold the token; a client quotes a token that makes no valid header."""
    return token is None or not ("Bearer" in message or any(part in message for part in token.split()))


PROBES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "torch": probe_torch,
    "gpu": probe_gpu,
    "imports": probe_imports,
    "torchvision": probe_torchvision,
    "torchcodec": probe_torchcodec,
    "pyav": probe_pyav,
    "hub": probe_hub,
}


def _probe_decoder(backend: str, *, module: str, ffmpeg_version: str) -> dict[str, Any]:
    """Return the answer of a decoder; an attribute of its module says which FFmpeg it has."""
    from ..video.decoding import check_backends

    missing = check_backends([backend])[backend]
    if missing is not None:
        return {"missing": missing, "decode_error": None}
    ffmpeg = str(getattr(importlib.import_module(module), ffmpeg_version, "?"))
    return {"missing": None, "decode_error": _test_decode(backend), "ffmpeg": ffmpeg}


def _test_decode(backend: str) -> str | None:
    """Return what is wrong with the decoded frames of the package's own clip; None if they are right."""
    from ..video.decoding import VideoDecodeError, open_video

    try:
        with open_video(TEST_CLIP, backend=backend) as reader:
            gray_levels = reader.frames(range(reader.num_frames)).float().mean(dim=(1, 2, 3))
    except VideoDecodeError as error:
        return error.reason
    if len(gray_levels) != _CLIP_FRAMES or not bool((gray_levels.diff() > 0).all()):
        return f"wrong frames: {len(gray_levels)} of {_CLIP_FRAMES}, grays {gray_levels.round().tolist()}"
    return None


def _driver_cuda() -> str | None:
    """Return the newest CUDA version that the NVIDIA driver supports, None without a driver."""
    import ctypes

    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def main(names: list[str]) -> None:
    """Run probes, and print each answer at once: a crash loses no earlier answer."""
    answers = os.dup(1)  # libraries print to stdout, which must not mix with the answers
    os.dup2(2, 1)
    for name in names:
        os.write(answers, (json.dumps({"probe": name, "answer": PROBES[name]()}) + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:])

"""Report an installed package that does not load with the others, in one line instead of a long traceback."""

import importlib
import importlib.util
import os
import sys
from importlib import metadata
from types import TracebackType


class BrokenDependencyError(ImportError):
    """An installed package cannot be imported; the message is one line with the remedy.

    A script that does not catch it ends with that line; HF_VIDEOMAE_DEBUG=1 shows the traceback.
    """


def find_torchvision_error() -> str | None:
    """Return why an installed torchvision cannot be imported; None if it can be, or is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None


def check_torchvision() -> None:
    """Check that torchvision fits torch if it is installed: transformers imports it, although nothing here does.

    Raises:
        BrokenDependencyError: it does not load.
    """
    error = find_torchvision_error()
    if error is None:
        return
    _install_one_line_excepthook()
    raise BrokenDependencyError(
        f"torchvision {_version('torchvision')} does not load with torch {_version('torch')} ({error}); "
        f"{torchvision_remedy(_version('torch'))}"
    )


def torchvision_remedy(torch: str) -> str:
    """Return what to do about a torchvision that does not fit this version of torch."""
    return f"{torchvision_command(torch)}, or pip uninstall torchvision (hf-videomae does not need it)"


def torchvision_command(torch: str) -> str:
    """Return the command that installs the torchvision of a torch: 0.28 belongs to 2.13, and so on."""
    major, minor = (torch.split(".") + ["", ""])[:2]
    version_spec = f"==0.{int(minor) + 15}.*" if major == "2" and minor.isdecimal() else ""
    return f"pip install --force-reinstall --no-deps 'torchvision{version_spec}'"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(unknown version)"


def _install_one_line_excepthook() -> None:
    """Let scripts end with one line; they import this package before they can catch anything."""
    previous_hook = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, BrokenDependencyError) and not os.environ.get("HF_VIDEOMAE_DEBUG"):
            print(f"error: {error}", file=sys.stderr)
        else:
            previous_hook(kind, error, trace)

    sys.excepthook = report

"""What every written record says of where its numbers come from: date, versions, hardware, command."""

import contextlib
import io
import json
import os
import platform
import re
import stat
import sys
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .storage import replace

if TYPE_CHECKING:
    import torch

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "torchcodec", "safetensors")

# Access tokens by the form that their makers gave them, so that a scanner finds them.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|api_org|sk|gh[pousr]|npm|dckr_pat|glsa|glc)_[A-Za-z0-9_]{16,}"  # the Hub, GitHub, npm, Docker, Grafana
    r"|(?:rk_live|rk_test|whsec|do[oprt]_v1|shp(?:at|ca|pa|ss)|lin_api|ntn|figd|gsk|pcsk)_[A-Za-z0-9_-]{20,}"
    r"|(?:secret|r8)_[A-Za-z0-9]{30,}"  # Notion, Replicate
    r"|(?:nvapi|pplx|xai|GOCSPX)-[A-Za-z0-9_-]{20,}"  # NVIDIA, Perplexity, xAI, Google
    r"|(?:dapi|SK|key-)[0-9a-f]{32}|hv[sbr]\.[A-Za-z0-9_-]{20,}"  # Databricks, Twilio, Mailgun, Vault
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|1//0[A-Za-z0-9_-]{30,}"  # SendGrid, Google
    r"|[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}|[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"  # chat bots
    r"|github_pat_[A-Za-z0-9_]{16,}"
    r"|gl(?:pat|ptt|dt|rt|rtr|cbt|ft|soat|imt|agent|oas|ffct)-[A-Za-z0-9_.-]{16,}"  # GitLab
    r"|(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}"  # Slack
    r"|sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic
    r"|pypi-[A-Za-z0-9_-]{16,}"
    r"|A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}"  # AWS
    r"|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{16,}"  # Google
    r"|ATATT3[A-Za-z0-9_=-]{16,}|ATBB[A-Za-z0-9]{16,}"  # Atlassian
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JSON Web Token
    r")"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_URL_USER = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s?#\"'<>\\]+@", re.IGNORECASE)
_SECRET_NAME = (
    r"(?:token|secret|passw(?:or)?d|passphrase|signature|credential|api[_-]?key|(?:access|account)[_-]?key)s?"
    r"(?:[_-]?(?:key|id|access[_-]?key))?"
)
# In a query short names are enough to know a signature by: Azure's `sig`, Aliyun's `sign`, Akamai's `hdnts`.
_QUERY = re.compile(
    rf"([?&;#](?:amp;)?(?:[A-Za-z0-9_.%-]{{0,60}}{_SECRET_NAME}|x-(?:amz|goog|oss|cos|ms|bce)-[a-z-]+|googleaccessid|key-pair-id|policy|sig|sign|"
    r"auth|authorization|pass|pwd|jwt|hmac|hdnts|hdnea)=)[^&\s\"'<>#\\]+",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    rf"((?:{_SECRET_NAME}|authorization)[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic|token)\s+)?)"
    r"(?![0-9.]+(?![A-Za-z0-9]))[A-Za-z0-9+/_.~%=-]{8,}",
    re.IGNORECASE,
)
_FLAG = re.compile(r"(--[a-z_-]*(?:token|password|secret|[_-]key)\s+)[^\s\"'-][^\s\"']{5,}", re.IGNORECASE)
_QUOTED_QUERY = re.compile(rf"((?:%3f|%26)[A-Za-z0-9_.-]{{0,60}}{_SECRET_NAME}%3d)[A-Za-z0-9_.~+-]+", re.IGNORECASE)
_LONG_KEY = re.compile(r"([?&]key=)[A-Za-z0-9_-]{24,}", re.IGNORECASE)
_COOKIE = re.compile(r"\b(cookie:\s*)[^\s\"'][^\r\n\"']*", re.IGNORECASE)
_WEBHOOK = re.compile(
    r"\b(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/)[\w/-]+", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer\s+)[A-Za-z0-9+/=._~-]{12,}", re.IGNORECASE)


def without_tokens(text: str, *known: str | None) -> str:
    """Return a text without what looks like a token of the Hub or of others, and without those that are known."""
    for token in filter(None, known):
        text = text.replace(token, "TOKEN")
    return _PRIVATE_KEY.sub("TOKEN", _TOKEN.sub("TOKEN", text))


def without_credentials(text: str, *known: str | None) -> str:
    """Return a text without tokens, names and passwords in URLs, signatures in their queries, and passwords set in it.

    What else a URL asks for stays: it may be all that tells two videos apart. JSON stays JSON.
    """
    text = _URL_USER.sub(r"\1", without_tokens(text, *known))
    for pattern in (_QUERY, _QUOTED_QUERY, _LONG_KEY, _ASSIGNED, _FLAG, _BEARER, _COOKIE, _WEBHOOK):
        text = pattern.sub(r"\1TOKEN", text)
    return text


def readable(text: str) -> str:
    """Return a path or name as text in UTF-8: `\\xe9` stands for a byte that is none, as names on a disk may hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_utf8(path: str | None, *, name: str) -> None:
    """Raise ValueError for a path that is no UTF-8, which safetensors can neither read nor write.

    Args:
        path: of a folder of weights; None is left alone.
        name: what the path is, for the error.
    """
    if path is not None and readable(path) != path:
        raise ValueError(
            f"{name} {readable(path)} is no UTF-8, and weights cannot be kept under such a name; rename the folder, "
            f"or give another"
        )


def print_any_name() -> None:
    """Let stdout escape the characters that it cannot encode, where it would raise by default.

    Names of files may hold any bytes, and a terminal need not know every script.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


# Line breaks of Unicode, and signs that turn the direction of what follows.
_BREAKS = frozenset("\u2028\u2029\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def printable(text: str) -> str:
    """Return a text in which nothing moves the cursor, colors or turns what follows; line breaks and tabs stay.

    Control characters and halves of characters become escapes, such as `\\x1b`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    is_control = unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t"
    return ascii(sign)[1:-1] if is_control or sign in _BREAKS else sign


def write_whole(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file whole or not at all; with `sync`, also through a power cut."""
    temporary = path.with_name(path.name + ".unfinished")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(readable(text))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        (replace if sync else os.replace)(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename is None:  # where the disk is full
            error.filename = str(path)
        raise


def write_json(path: Path, values: dict[str, Any], *, sync: bool = True) -> None:
    """Write a JSON file whole or not at all; with `sync`, also through a power cut."""
    write_whole(path, json.dumps(values, indent=2) + "\n", sync=sync)


def read_json(path: Path, *, remedy: str, kind: type[ValueError] = ValueError) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: of the file.
        remedy: what to do where it is damaged.
        kind: of the error.

    Raises:
        ValueError: of the `kind`, naming the file, where it holds something else.
    """
    found = None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise kind(f"{path} is damaged: it is not a JSON object; {remedy}")
    return found


def with_access_of(sample: Path, files: Iterable[Path]) -> None:
    """Give files the access rights of one that `open` made: safetensors lets nobody else read what it writes."""
    mode = stat.S_IMODE(sample.stat().st_mode)
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hardware(processes: int, device: "torch.device") -> dict[str, Any]:
    """What the run ran on."""
    import torch

    facts = {"platform": platform.platform(), "cpu": _cpu_name(), "cpu_cores": os.cpu_count(), "processes": processes}
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return {**facts, "device": device.type, "threads_per_process": torch.get_num_threads()}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers."""
    found = {"hf_videomae": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def command_line() -> str:
    """Return the command as it was typed, as far as the process can know, without credentials."""
    import shlex

    return without_credentials(shlex.join([Path(sys.executable).name, *sys.argv]))

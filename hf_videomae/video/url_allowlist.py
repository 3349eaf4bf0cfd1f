"""Decide which URLs and paths that a dataset names may be read.

A row of a dataset may come from anyone. `hf_videomae.data.path_policy` decides what of it may be opened; the two
types here carry that decision to the decoder, in any process.
"""

import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

# A URL that every program parses in the same way: no spaces, backslashes, control characters, nothing outside ASCII.
_PLAIN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[!-\[\]-~]{1,4096}", flags=re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
ALLOWED_SCHEMES = frozenset("http https hf s3 s3a gs gcs az abfs abfss adl oss r2 ftp ftps sftp".split())
"""Schemes of servers and stores that may be opened. Others (`reference`, `simplecache`, ...) lead elsewhere."""


class BlockedVideo(bytes):
    """A video that a dataset names and that is not opened: no bytes, and the reason.

    Attributes:
        path: the path or URL that the dataset names.
        reason: why it is not opened.
    """

    path: str
    reason: str

    def __new__(cls, path: str, reason: str) -> "BlockedVideo":
        instance = super().__new__(cls)
        instance.path, instance.reason = path, reason
        return instance

    def __reduce__(self) -> tuple[type["BlockedVideo"], tuple[str, str]]:
        return BlockedVideo, (self.path, self.reason)


class AllowedURL(str):
    """A URL that a dataset names and that the user allowed. A redirect to an address that is not allowed is refused.

    Attributes:
        allowed: hosts and URL prefixes.
    """

    allowed: tuple[str, ...]

    def __new__(cls, url: str, allowed: Sequence[str]) -> "AllowedURL":
        instance = super().__new__(cls, url)
        instance.allowed = tuple(allowed)
        return instance

    def __reduce__(self) -> tuple[type["AllowedURL"], tuple[str, tuple[str, ...]]]:
        return AllowedURL, (str(self), self.allowed)


def is_plain_url(url: str) -> bool:
    """Return whether a URL is unambiguous: plain characters, no chained file systems, no user or password, no `..`."""
    if not _PLAIN_URL.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if "::" in url and parts.scheme not in _PORTS:
        return False
    segments = re.split(r"/|%2f", parts.path, flags=re.IGNORECASE)
    return not _has_user(url) and not any(map(_is_parent, segments))


def _has_user(url: str) -> bool:
    """Return whether an http(s) URL holds a name or password; in hf:// an `@` stands before the revision."""
    parts = urlsplit(url)
    return parts.scheme in _PORTS and "@" in parts.netloc


def _is_parent(segment: str) -> bool:
    return segment.lower().replace("%2e", ".") in ("..", ".")


def url_host(url: str) -> str:
    """Return the host of a URL as `--allow_paths` takes it: with its port unless that is the default."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    default_port = parts.port is None or parts.port == _PORTS.get(parts.scheme)
    return host if default_port else f"{host}:{parts.port}"


def redact_url(url: str) -> str:
    """Return a URL as errors and logs name it: without user, password and query, which may hold a signature."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    location, question, _ = rest.partition("?")
    host, slash, path = location.partition("/")
    if scheme.lower() != "hf":
        host = host.rpartition("@")[2]
    return f"{scheme}://{host}{slash}{path}{'?...' if question else ''}"


def is_allowed_url(url: str, allowed: Sequence[str]) -> bool:
    """Return whether a URL is on one of the hosts, or begins with one of the URL prefixes.

    Args:
        url: a URL of any scheme.
        allowed: hosts (`videos.example.org`, `localhost:8000`; http and https alone) or prefixes (`s3://bucket/clips`,
            `hf://datasets/org/name`).
    """
    if not is_plain_url(url) or urlsplit(url).scheme not in ALLOWED_SCHEMES:
        return False
    return any(_has_prefix(url, entry) if "://" in entry else _is_on_host(url, entry) for entry in allowed)


def _is_on_host(url: str, host: str) -> bool:
    """Compare names and ports; an entry without a port is the usual one of http or https."""
    parts = urlsplit(url)
    default_port = _PORTS.get(parts.scheme)
    entry = urlsplit(f"//{host}")
    same_name = (parts.hostname or "").rstrip(".") == (entry.hostname or "").rstrip(".")
    return default_port is not None and same_name and (parts.port or default_port) == (entry.port or default_port)


def _has_prefix(url: str, prefix: str) -> bool:
    """Compare scheme and host without case, the path exactly, and only up to a whole path component."""
    (scheme, _, location), (wanted, _, start) = url.partition("://"), prefix.rstrip("/").partition("://")
    host, _, path = location.partition("/")
    wanted_host, _, wanted_path = start.partition("/")
    if scheme.lower() != wanted.lower() or host.lower() != wanted_host.lower():
        return False
    rest = path.removeprefix(wanted_path)
    if not path.startswith(wanted_path):
        return False
    # In hf:// the revision follows the repository's name.
    return not wanted_path or not rest or rest.startswith(("/", "?", "@") if wanted.lower() == "hf" else ("/", "?"))


def is_inside_folder(path: str, folder: str) -> bool:
    """Return whether a file lies in a folder once all links are followed."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)

"""Receive large files over Xet, as uploaded by every user who has `hf_xet`.

The client's part is real: it splits a file into chunks, packs and describes them with its own code, and requests the
token and the commit from this Hub. The storage service is not: the token names a folder, `local://DIR`, in its place.
So no part of the transfer goes over HTTP, no fault can be injected there, and the uploader must be on this machine.
Every token has its own folder, because a process keeps the one it writes to locked; chunks of other uploads are not
reused. Downloads are plain: no X-Xet-Hash is sent, and files are redirected to the second host as usual.

That `hf_xet` accepts such an address is undocumented and may end; the format of its shards is that of xet-core 1.8.
"""

import importlib.util
import shutil
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .commits import LfsStore
from .messages import HubResponse, json_response
from .storage import Repo

_SECONDS = 3600
# Of a shard: its header, and each of the entries that follow.
_HEADER, _ENTRY = 48, 48
_LAST = b"\xff" * 32
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30


@dataclass(frozen=True)
class XetFile:
    """A file as a shard describes it; `name` is its Xet hash."""

    sha256: str
    name: str
    size: int


@dataclass(frozen=True)
class XetUploads:
    """What was uploaded to a repository over Xet: a folder for each token."""

    repo: Repo

    def open(self) -> HubResponse:
        """Return a token for an upload."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return _token(Path(tempfile.mkdtemp(prefix="upload-", dir=self._folder)))

    def collect(self, wanted: Iterable[str]) -> None:
        """Store files by their SHA-256 as objects that commits may refer to; skip those that never came."""
        objects = LfsStore(self.repo)
        missing = {sha256 for sha256 in wanted if objects.find(sha256) is None}
        for folder in self._folder.glob("upload-*"):
            files = {file.sha256: file for file in _files_in_folder(folder) if file.sha256 in missing}
            if files:
                with _read(folder, list(files.values())) as contents:
                    missing -= {sha256 for sha256, path in contents.items() if objects.add(sha256, path.read_bytes())}

    @property
    def _folder(self) -> Path:
        return self.repo.history / "xet"


def can_read_xet() -> bool:
    """Return whether Xet uploads can be read on this machine."""
    return importlib.util.find_spec("hf_xet") is not None


def _token(folder: Path) -> HubResponse:
    """Return the token in the body and the headers, because clients read either."""
    address, token, until = f"local://{folder}", "xet_local", int(time.time()) + _SECONDS
    headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(until)}
    return json_response({"casUrl": address, "accessToken": token, "exp": until}, **headers)


@contextmanager
def _read(folder: Path, files: list[XetFile]) -> Iterator[dict[str, Path]]:
    """Yield files by their SHA-256, from a copy, because the uploader may not have closed the folder yet."""
    import hf_xet

    with tempfile.TemporaryDirectory(prefix="copy-", dir=folder.parent) as temporary:
        copy = Path(temporary)
        shutil.copytree(folder / "xet" / "xorbs", copy / "xet" / "xorbs")
        paths = {file.sha256: copy / file.sha256 for file in files}
        # The threads of a session end with it.
        group = hf_xet.XetSession().new_file_download_group(
            endpoint=f"local://{copy}", token="xet_local", token_expiry_unix_secs=int(time.time()) + _SECONDS
        )
        with group:
            for file in files:
                group.start_download_file(hf_xet.XetFileInfo(file.name, file.size), str(paths[file.sha256]))
        yield paths


# Shards.


def _files_in_folder(folder: Path) -> Iterator[XetFile]:
    for shard in (folder / "xet" / "xorbs" / "shards").glob("*.mdb"):
        yield from _files_in(shard.read_bytes())


def _files_in(shard: bytes) -> Iterator[XetFile]:
    """Yield the files of a shard: each has a name, flags and number of segments, then these, then what the flags
    announce.
    """
    at = _HEADER
    while (name := shard[at : at + 32]) != _LAST:
        flags, count = struct.unpack_from("<II", shard, at + 32)
        size = sum(struct.unpack_from("<I", shard, at + _ENTRY * (1 + number) + 36)[0] for number in range(count))
        at += _ENTRY * (1 + count * (2 if flags & _VERIFIED else 1))
        if flags & _WITH_SHA256:
            yield XetFile(_xet_hash(shard[at : at + 32]), _xet_hash(name), size)
            at += _ENTRY


def _xet_hash(name: bytes) -> str:
    """Return the hash as the clients write it: four little-endian numbers of 8 bytes."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", name))

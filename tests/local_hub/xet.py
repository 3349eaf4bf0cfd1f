"""Large files that come over Xet, as they do from every user who has `hf_xet`.

What is real: the client cuts a file into chunks, packs and describes them by its own code, and asks this Hub for the
token and the commit. What is not: the storage service. The token names a folder, `local://DIR`, in its place, so that
nothing of the transfer goes over HTTP: no fault can be injected there, and who uploads must be on this machine. Every
token has a folder of its own, because a process keeps the one it writes to locked; so nothing is spared by chunks that
another upload brought. Downloads are plain: no X-Xet-Hash is sent, files are redirected to the second host as ever.

That `hf_xet` takes such an address is written nowhere, and may end; the form of its shards is that of xet-core, 1.8.
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

from .commits import Objects
from .messages import Answer, as_json
from .storage import Repo

_SECONDS = 3600
# Of a shard: its header, and each of the entries that follow.
_HEADER, _ENTRY = 48, 48
_LAST = b"\xff" * 32
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30


@dataclass(frozen=True)
class XetFile:
    """A file as a shard describes it; `name` is its hash in Xet."""

    sha256: str
    name: str
    size: int


@dataclass(frozen=True)
class XetUploads:
    """What was sent to a repository over Xet: a folder for each token."""

    repo: Repo

    def open(self) -> Answer:
        """A token for an upload."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return _token(Path(tempfile.mkdtemp(prefix="upload-", dir=self._folder)))

    def take_in(self, wanted: Iterable[str]) -> None:
        """Put files, by their SHA-256, among the objects that commits may refer to; those that never came are left."""
        objects = Objects(self.repo)
        missing = {sha256 for sha256 in wanted if objects.find(sha256) is None}
        for folder in self._folder.glob("upload-*"):
            found = {file.sha256: file for file in _files_of(folder) if file.sha256 in missing}
            if found:
                with _read(folder, list(found.values())) as contents:
                    missing -= {sha256 for sha256, path in contents.items() if objects.add(sha256, path.read_bytes())}

    @property
    def _folder(self) -> Path:
        return self.repo.history / "xet"


def is_spoken() -> bool:
    """Whether what comes over Xet can be read here."""
    return importlib.util.find_spec("hf_xet") is not None


def _token(folder: Path) -> Answer:
    """The client reads the body or the headers."""
    address, token, until = f"local://{folder}", "xet_local", int(time.time()) + _SECONDS
    headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(until)}
    return as_json({"casUrl": address, "accessToken": token, "exp": until}, **headers)


@contextmanager
def _read(folder: Path, files: list[XetFile]) -> Iterator[dict[str, Path]]:
    """Files by their SHA-256; out of a copy, because the uploader may not have closed the folder yet."""
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


def _files_of(folder: Path) -> Iterator[XetFile]:
    for shard in (folder / "xet" / "xorbs" / "shards").glob("*.mdb"):
        yield from _files_in(shard.read_bytes())


def _files_in(shard: bytes) -> Iterator[XetFile]:
    """Each begins with its name, flags and number of segments; then these, and what the flags announce."""
    at = _HEADER
    while (name := shard[at : at + 32]) != _LAST:
        flags, count = struct.unpack_from("<II", shard, at + 32)
        size = sum(struct.unpack_from("<I", shard, at + _ENTRY * (1 + number) + 36)[0] for number in range(count))
        at += _ENTRY * (1 + count * (2 if flags & _VERIFIED else 1))
        if flags & _WITH_SHA256:
            yield XetFile(_hex(shard[at : at + 32]), _hex(name), size)
            at += _ENTRY


def _hex(name: bytes) -> str:
    """As the clients write it: four numbers of 8 bytes, of which the lowest byte comes first in the file."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", name))

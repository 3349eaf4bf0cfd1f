"""The Hub as the tests hold it: its folder, its address, its log, and what goes wrong on purpose."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from .access import READ_TOKEN, TOKEN
from .answers import Answers
from .faults import Fault, Kind, Record, Request
from .server import Server

# Settings of the user's own that would lead the clients elsewhere.
SET_ASIDE = {
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"),
    *("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_ASSETS_CACHE"),
}


PAGE = "<!DOCTYPE html><html><body>Please log in to this network</body></html>"


class LocalHub:
    """A Hub on 127.0.0.1, running from `start` to `stop`.

    Repositories are folders: put files into `hub.model("org/name")` or `hub.dataset("org/name")`, or upload them:
    every commit is a new revision, and those before it stay readable. `token` may write in `org` and `team`.

    Args:
        root: folder of the repositories, made where it is missing.
        home: folder for the private caches of the clients.
    """

    token, read_token = TOKEN, READ_TOKEN

    def __init__(self, root: Path, *, home: Path) -> None:
        self.root, self.home = root, home
        self.record = Record()
        root.mkdir(parents=True, exist_ok=True)
        self.answers = Answers(root)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    # Coming and going.

    def start(self) -> None:
        """Listen; on the same port again after `stop`."""
        self._server = Server(port=self.port, answers=self.answers, record=self.record)
        self.port = int(self._server.server_address[1])
        # By another name: the clients must take it for another host, and send it no token.
        self.answers.listen_at(self.endpoint, f"http://localhost:{self.port}")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections and reset the ones there are."""
        if self._server is not None and self._thread is not None:
            self._server.cut()
            self._thread.join()
            self._server = self._thread = None

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Away while the block runs: connections are refused, those that were open are reset."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    # What is there.

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def model(self, id: str, *, revision: str | None = None) -> Path:
        """The folder of a model, made where it is missing."""
        return self._folder("models", id, revision)

    def dataset(self, id: str, *, revision: str | None = None) -> Path:
        """The folder of a data set, made where it is missing."""
        return self._folder("datasets", id, revision)

    def _folder(self, kind: str, id: str, revision: str | None) -> Path:
        folder = self.root / kind / (id if revision is None else f"{id}@{quote(revision, safe='')}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def hide(self, key: str) -> None:
        """Make `datasets/org/name` or `models/org/name` private."""
        self.answers.access.private.add(key)

    def gate(self, key: str) -> None:
        """Ask for terms to be accepted before the files of `datasets/org/name` are read."""
        self.answers.access.gated.add(key)

    def is_private(self, key: str) -> bool:
        """Whether `datasets/org/name` or `models/org/name` is."""
        return key in self.answers.access.private

    def take_parts_of(self, size: int) -> None:
        """Ask for larger files in parts of so many bytes."""
        self.answers.uploads.part_bytes = size

    # What goes wrong.

    def fail(self, pattern: str, *, status: int = 503, times: int | None = 1, retry_after: int | None = None) -> None:
        """Answer the next `times` requests found by a pattern in `METHOD /path` with an error; None: all of them."""
        self.record.add_fault(Fault(pattern, "status", status=status, times=times, retry_after=retry_after))

    def cut_off(self, pattern: str, *, after_bytes: int, times: int | None = 1, kind: Kind = "reset") -> None:
        """Break the connection after so many bytes of the body, by a reset or (`truncate`) a clean end."""
        self.record.add_fault(Fault(pattern, kind, after_bytes=after_bytes, times=times))

    def hang_up(self, pattern: str, *, after_bytes: int, times: int | None = 1) -> None:
        """Break the connection in the middle of an upload."""
        self.record.add_fault(Fault(pattern, "hang_up", after_bytes=after_bytes, times=times))

    def stall(self, pattern: str, *, seconds: float, times: int | None = 1) -> None:
        """Answer late."""
        self.record.add_fault(Fault(pattern, "stall", seconds=seconds, times=times))

    def answer_page(self, pattern: str, *, times: int | None = 1, text: str = PAGE, done: bool = False) -> None:
        """Answer 200 with a page in place of what was asked for; `done`: after the request was carried out."""
        self.record.add_fault(Fault(pattern, "page", times=times, text=text, done=done))

    def shorten(self, pattern: str, *, after_bytes: int, times: int | None = 1) -> None:
        """Send a part of the body as if it were all of it."""
        self.record.add_fault(Fault(pattern, "short", after_bytes=after_bytes, times=times))

    def corrupt(self, pattern: str, *, after_bytes: int = 0, times: int | None = 1) -> None:
        """Send other bytes, as many as wanted."""
        self.record.add_fault(Fault(pattern, "corrupt", after_bytes=after_bytes, times=times))

    def delete(self, key: str) -> None:
        """Take `datasets/org/name` or `models/org/name` away."""
        shutil.rmtree(self.root / key)

    def expire_tokens(self) -> None:
        """Know no token any more."""
        self.answers.access.roles.clear()

    def heal(self) -> None:
        """Take back all faults."""
        self.record.heal()

    # What was asked.

    def requests(self, pattern: str = "") -> list[Request]:
        """The requests so far whose `METHOD /path?query` a pattern finds, in order."""
        return self.record.matching(pattern)

    def forget(self) -> None:
        """Begin a new log."""
        self.record.forget()

    # Who asks.

    def environment(self, *, xet: bool = False) -> dict[str, str]:
        """For a subprocess: this one's environment, with this Hub in place of the real one and caches of its own.

        Args:
            xet: large files go up over Xet where `hf_xet` is installed, as a user's do, and not by LFS.
        """
        kept = {name: value for name, value in os.environ.items() if name not in SET_ASIDE}
        return {**kept, **self.variables(), **({"HF_HUB_DISABLE_XET": "0"} if xet else {})}

    def variables(self) -> dict[str, str]:
        """What the clients read when they are imported."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

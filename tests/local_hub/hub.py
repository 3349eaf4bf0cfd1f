"""Control the tests' Hub: its folder, address, log and faults."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from .access import READ_TOKEN, TOKEN
from .faults import Fault, Kind, Request, RequestLog
from .router import Router
from .server import Server

# Variables of the user's environment that would lead the clients elsewhere.
REMOVED_VARIABLES = {
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"),
    *("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_ASSETS_CACHE"),
}


PAGE = "<!DOCTYPE html><html><body>Please log in to this network</body></html>"


class LocalHub:
    """A Hub on 127.0.0.1, running from `start` to `stop`.

    Repositories are folders: put files into `hub.model("org/name")` or `hub.dataset("org/name")`, or upload them.
    Every commit is a new revision, and older ones stay readable. `token` may write to `org` and `team`.

    Args:
        root: folder of the repositories, created if needed.
        home: folder for the private caches of the clients.
    """

    token, read_token = TOKEN, READ_TOKEN

    def __init__(self, root: Path, *, home: Path) -> None:
        self.root, self.home = root, home
        self.record = RequestLog()
        root.mkdir(parents=True, exist_ok=True)
        self.router = Router(root)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    # Start and stop.

    def start(self) -> None:
        """Listen; on the same port again after `stop`."""
        self._server = Server(port=self.port, router=self.router, record=self.record)
        self.port = int(self._server.server_address[1])
        # Under another name, so that the clients take it for another host and send it no token.
        self.router.set_addresses(self.endpoint, f"http://localhost:{self.port}")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections and reset the open ones."""
        if self._server is not None and self._thread is not None:
            self._server.cut()
            self._thread.join()
            self._server = self._thread = None

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Be unreachable while the block runs: refuse new connections and reset the open ones."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    # Repositories.

    @property
    def endpoint(self) -> str:
        """Return the value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def model(self, id: str, *, revision: str | None = None) -> Path:
        """Return the folder of a model, created if needed."""
        return self._folder("models", id, revision)

    def dataset(self, id: str, *, revision: str | None = None) -> Path:
        """Return the folder of a dataset, created if needed."""
        return self._folder("datasets", id, revision)

    def _folder(self, kind: str, id: str, revision: str | None) -> Path:
        folder = self.root / kind / (id if revision is None else f"{id}@{quote(revision, safe='')}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def hide(self, key: str) -> None:
        """Make `datasets/org/name` or `models/org/name` private."""
        self.router.access.private.add(key)

    def gate(self, key: str) -> None:
        """Require a token to read the files of `datasets/org/name`, as if its terms had to be accepted."""
        self.router.access.gated.add(key)

    def is_private(self, key: str) -> bool:
        """Return whether `datasets/org/name` or `models/org/name` is private."""
        return key in self.router.access.private

    def split_uploads_at(self, size: int) -> None:
        """Request files larger than this in parts of so many bytes."""
        self.router.uploads.part_bytes = size

    # Faults.

    def fail(self, pattern: str, *, status: int = 503, times: int | None = 1, retry_after: int | None = None) -> None:
        """Respond to the next `times` requests that match `METHOD /path` with an error; None: to all of them."""
        self.record.add_fault(Fault(pattern, "status", status=status, times=times, retry_after=retry_after))

    def cut_off(self, pattern: str, *, after_bytes: int, times: int | None = 1, kind: Kind = "reset") -> None:
        """Break the connection after so many bytes of the body, by a reset or (`truncate`) a clean end."""
        self.record.add_fault(Fault(pattern, kind, after_bytes=after_bytes, times=times))

    def hang_up(self, pattern: str, *, after_bytes: int, times: int | None = 1) -> None:
        """Break the connection in the middle of an upload."""
        self.record.add_fault(Fault(pattern, "hang_up", after_bytes=after_bytes, times=times))

    def stall(self, pattern: str, *, seconds: float, times: int | None = 1) -> None:
        """Respond late."""
        self.record.add_fault(Fault(pattern, "stall", seconds=seconds, times=times))

    def answer_page(self, pattern: str, *, times: int | None = 1, text: str = PAGE, done: bool = False) -> None:
        """Respond with 200 and a page in place of what was requested; `done`: after the request was carried out."""
        self.record.add_fault(Fault(pattern, "page", times=times, text=text, done=done))

    def shorten(self, pattern: str, *, after_bytes: int, times: int | None = 1) -> None:
        """Send a part of the body as if it were all of it."""
        self.record.add_fault(Fault(pattern, "short", after_bytes=after_bytes, times=times))

    def corrupt(self, pattern: str, *, after_bytes: int = 0, times: int | None = 1) -> None:
        """Send other bytes, as many as expected."""
        self.record.add_fault(Fault(pattern, "corrupt", after_bytes=after_bytes, times=times))

    def delete(self, key: str) -> None:
        """Delete `datasets/org/name` or `models/org/name`."""
        shutil.rmtree(self.root / key)

    def expire_tokens(self) -> None:
        """Make all tokens unknown."""
        self.router.access.roles.clear()

    def heal(self) -> None:
        """Remove all faults."""
        self.record.heal()

    # The request log.

    def requests(self, pattern: str = "") -> list[Request]:
        """Return the requests whose `METHOD /path?query` matches a pattern, in order."""
        return self.record.matching(pattern)

    def forget(self) -> None:
        """Clear the log."""
        self.record.forget()

    # Who has_flag.

    def environment(self, *, xet: bool = False) -> dict[str, str]:
        """Return this process's environment for a subprocess, with this Hub instead of the real one and private
        caches.

        Args:
            xet: upload large files over Xet if `hf_xet` is installed, as users do, instead of LFS.
        """
        kept = {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}
        return {**kept, **self.variables(), **({"HF_HUB_DISABLE_XET": "0"} if xet else {})}

    def variables(self) -> dict[str, str]:
        """Return the variables that the clients read when they are imported."""
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

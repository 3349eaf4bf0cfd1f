"""Give all tests the real files, a Hub on loopback, and a fresh seed each."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_hub import LocalHub

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has one core; read when torch is first imported

SHARED = Path(__file__).resolve().parents[2] / "shared"

# No test reaches the network: the clients of the Hub are told so before anything imports them.
if os.environ.get("HF_NETWORK") != "1":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"needs the folder {path.relative_to(SHARED.parent)} beside the project, which is not here")
    return path


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    """Return the folder of real video files with quirks."""
    return _folder(SHARED / "clips")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return a small real action set in class folders."""
    return _folder(SHARED / "data" / "ut_interaction")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Return the golden numbers of the original implementations; they are part of the tests."""
    return Path(__file__).parent / "parity" / "golden"


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """Start every test with the same random state and no HDR videos counted, whatever ran before it."""
    import torch

    torch.manual_seed(0)
    yield
    hdr = sys.modules.get("hf_videomae.video.hdr")
    if hdr is not None:
        hdr.hdr_counter._videos.clear()


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a twentieth of a second between attempts."""
    from hf_videomae.hub import retry

    monkeypatch.setattr(retry, "_INITIAL_BACKOFF", 0.05)
    monkeypatch.setattr(retry, "_MAX_BACKOFF", 0.05)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """Run an empty Hub on loopback for the clients of this process; others need `hub.environment()`."""
    from tests.local_hub.clients import forget_connections, patch_clients

    hub = LocalHub(tmp_path / "hub", home=tmp_path / "hf_home")
    hub.start()
    try:
        patch_clients(hub, monkeypatch)
        yield hub
    finally:
        hub.stop()
        forget_connections()

"""Provide a Hub on loopback with a logged-in user, and the folder of a run."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_videomae.hub import retry
from tests.helpers.publishing import open_publishers
from tests.local_hub import LocalHub


@pytest.fixture
def logged_in(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """Log in as a user who may write to `org` and `team`, shorten retries, and end all publishers afterwards."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr(retry, "_INITIAL_BACKOFF", 0.05)
    monkeypatch.setattr(retry, "_MAX_BACKOFF", 0.05)
    yield hub
    hub.heal()
    while open_publishers:
        open_publishers.pop().report_unpublished()
    for thread in threading.enumerate():
        if thread.name == "publisher":
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"

"""Provide a classifier, a video, a server on loopback, and endpoint handlers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_videomae.serving.endpoint import EndpointHandler, EndpointSettings
from tests.helpers.loopback import Loopback, serving
from tests.helpers.models import save_model, write_video


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def handler(model_dir: Path) -> EndpointHandler:
    return EndpointHandler(str(model_dir))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", repeat=2)


@pytest.fixture(scope="module")
def server(video: Path) -> Iterator[Loopback]:
    with serving(video.read_bytes()) as running:
        yield running


@pytest.fixture(scope="module")
def fetching(model_dir: Path, server: Loopback) -> EndpointHandler:
    """Return a handler that may download small files from `server`."""
    settings = EndpointSettings(
        allow=(server.address,), max_bytes=200_000, max_concurrent_downloads=3, max_concurrent_decodes=2
    )
    return EndpointHandler(model_dir, settings=settings)


@pytest.fixture(scope="module")
def impatient(model_dir: Path, server: Loopback) -> EndpointHandler:
    """Return a handler with very short timeouts."""
    settings = EndpointSettings(allow=(server.address,), download_seconds=0.6, read_seconds=0.3)
    return EndpointHandler(model_dir, settings=settings)

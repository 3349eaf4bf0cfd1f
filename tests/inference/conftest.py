"""Make what the tests of inference share: a small classifier on disk and a video."""

from pathlib import Path

import pytest

from tests.helpers.models import save_model, write_video


@pytest.fixture(scope="package")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a classifier; tests only read it."""
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="package")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a video of 48 frames at 12 fps; tests only read it."""
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", repeat=2)

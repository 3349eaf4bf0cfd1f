"""Test that errors in writing are reported in one line that says what, where, why and what to do."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_videomae.filesystem import StorageError, check_folder_writable, create_folder, wrap_write_errors
from tests.helpers.small_disk import small_disk

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_full_disk_reported_by_a_library_is_recognized(tmp_path: Path, size: int) -> None:
    with small_disk(tmp_path / "disk", megabytes=0.1) as disk:
        with pytest.raises(StorageError) as caught, wrap_write_errors("the weights", disk / "run", needed_bytes=size):
            save_file({"weight": torch.zeros(size // 4)}, disk / "weights.safetensors")
        message = str(caught.value)
        assert message.startswith(f"the weights cannot be written to {disk / 'run'}: No space left on device")
        assert f"needs about {size / 1e6:.1f} MB, 0." in message and "free space there" in message


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "free space there, or give another folder"),
        (errno.EROFS, "make it writable, or give another folder"),
        (errno.EACCES, "make it writable, or give another folder"),
    ],
)
def test_other_disk_errors_have_their_remedy(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught, wrap_write_errors("x", tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))
    assert os.strerror(number) in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/video.mp4"),
        OSError("no such video"),
    ],
)
def test_other_errors_pass_unchanged(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(type(error)), wrap_write_errors("x", tmp_path):
        raise error


@pytest.mark.parametrize("name", ["file", "file/below/deeper", "x" * 300, "a/" + "x" * 300])
def test_folder_that_cannot_be_created_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    for look in (check_folder_writable, create_folder):
        with pytest.raises(StorageError, match=r"^--output_dir .* cannot be created: ") as caught:
            look(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_check_writes_nothing(tmp_path: Path) -> None:
    check_folder_writable(tmp_path / "new" / "run")
    assert not list(tmp_path.iterdir())
    assert create_folder(tmp_path / "new" / "run").is_dir()

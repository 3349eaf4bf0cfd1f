"""Test untrusted checkpoint files: bad names, archives that unpack to far more, endless keys give one-line errors."""

import io
import json
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch

from hf_videomae.cli import main
from hf_videomae.convert.checkpoint_files import read_checkpoint_source

pytestmark = pytest.mark.fault


def error_of(path: Path) -> str:
    start = time.monotonic()
    with pytest.raises(ValueError) as caught:
        read_checkpoint_source(str(path))
    message = str(caught.value)
    assert time.monotonic() - start < 5 and len(message) < 800 and "\n" not in message
    return message


@pytest.mark.parametrize("wrapper", [None, "model", "module", "state_dict"])
@pytest.mark.parametrize("key", [0, 1.5, None, (1, 2), b"weight", True])
def test_weights_without_names_are_refused(tmp_path: Path, wrapper: str | None, key: object) -> None:
    weights = {key: torch.ones(3), "a": torch.ones(3)}
    torch.save(weights if wrapper is None else {wrapper: weights}, tmp_path / "a.pth")
    message = error_of(tmp_path / "a.pth")
    assert type(key).__name__ in message and "state dict" in message


def test_entries_other_than_the_weights_are_ignored(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(3)}, 7: {"b": torch.ones(2)}, 8: "text"}, tmp_path / "a.pth")
    source = read_checkpoint_source(str(tmp_path / "a.pth"))
    assert list(source.weights) == ["a"] and source.left_out == ("7",)


def test_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    """Write a small compressed archive whose one tensor unpacks to 200 MB."""
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(16)}, whole)
    path = tmp_path / "bomb.pth"
    zeros = bytes(2**20)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            with new.open(entry.filename, "w") as made:
                for _ in range(200 if "/data/" in entry.filename else 0):
                    made.write(zeros)
                made.write(old.read(entry))
    assert path.stat().st_size < 2**20
    message = error_of(path)
    assert str(200 * 2**20)[:4] in message and "torch.save does not compress" in message


def test_expanded_meta_and_sparse_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pth")
    assert "10000000000" in error_of(tmp_path / "a.pth")
    torch.save({"a": torch.empty(3, 3, device="meta")}, tmp_path / "b.pth")
    assert "meta" in error_of(tmp_path / "b.pth")
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "c.pth")
    assert "sparse" in error_of(tmp_path / "c.pth")


def test_long_names_are_cut_in_messages(tmp_path: Path) -> None:
    torch.save({"a" * 10**6: torch.ones(3), "b\n" * 10**5: torch.ones(3)}, tmp_path / "a.pth")
    torch.save({"x" * 10**6: 3}, tmp_path / "b.pth")
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        errors = io.StringIO()
        patch.setattr("sys.stderr", errors)
        main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "out")])
    assert len(errors.getvalue()) < 1500 and errors.getvalue().count("\n") == 1
    assert "holds no weights" in error_of(tmp_path / "b.pth")


def test_class_in_pickle_is_named(tmp_path: Path) -> None:
    name = "C" * 5000
    cls = type(name, (), {"__module__": "__main__", "__reduce__": lambda self: (print, ("x",))})
    torch.save({"a": cls()}, tmp_path / "a.pth")
    assert "print" in error_of(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "index",
    [{"weight_map": {"a": 3}}, {"weight_map": []}, {"weight_map": {"a": ["x"]}}, [], {"weight_map": {"a": "../../b"}}],
)
def test_invalid_shard_index_is_one_line(tmp_path: Path, index: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model.safetensors.index.json" in error_of(tmp_path)


@pytest.mark.parametrize("text", [b"[" * 10**5, b"\xff", b"3", b"{"])
def test_invalid_config_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    torch.save({"a": torch.ones(3)}, tmp_path / "pytorch_model.bin")
    assert "config.json" in error_of(tmp_path)


def test_damaged_safetensors_are_one_line(tmp_path: Path) -> None:
    for number, content in enumerate((b"", struct.pack("<Q", 2**62), struct.pack("<Q", 9) + b"{" * 9, bytes(8))):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(content)
        assert path.name in error_of(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_weights_of_other_dtypes_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"model": {"a.weight": torch.ones(3).to(dtype)}}, tmp_path / "a.pth")
    message = error_of(tmp_path / "a.pth")
    assert "a.weight" in message and str(dtype).removeprefix("torch.") in message


def test_training_arguments_may_be_a_dictionary(tmp_path: Path) -> None:
    torch.save({"model": {"a.weight": torch.ones(3)}, "args": {"data_set": "SSV2"}}, tmp_path / "a.pth")
    training = read_checkpoint_source(str(tmp_path / "a.pth")).training
    assert training is not None and training.data_set == "SSV2"

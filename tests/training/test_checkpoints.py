"""Test that checkpoints are complete or absent, store everything by name, and need no pickle."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_videomae.checkpoint_dir import (
    CheckpointError,
    find_checkpoint,
    incomplete_reason,
    latest_checkpoint,
    list_checkpoints,
)
from hf_videomae.training.checkpoints import (
    capture_rng_state,
    load_loader_states,
    load_optimizer_state,
    load_rank_state,
    prune_checkpoints,
    restore_rng_state,
    save_checkpoint,
)
from hf_videomae.training.optim import build_optimizer, build_param_groups


def trained(seed: int = 0, width: int = 3) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.LayerNorm(width))
    optimizer = build_optimizer(build_param_groups(model, weight_decay=0.1), betas=(0.9, 0.95), eps=1e-8)
    for _ in range(2):
        model(torch.randn(4, 2)).pow(2).sum().backward()
        optimizer.step()
    return model, optimizer


def write(folder: Path, step: int, optimizer: torch.optim.Optimizer | None = None, **options: object) -> Path:
    def save_model(target: Path) -> None:
        (target / "model.safetensors").write_bytes(b"weights")

    return save_checkpoint(
        folder,
        step,
        state={"recipe": {}},
        optimizer=optimizer or trained()[1],
        save_model=save_model,
        stream={"step": step},
        **options,
    )


def test_checkpoint_has_no_pickle_files(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 7)
    assert checkpoint.name == "checkpoint-7"
    assert {path.suffix for path in checkpoint.iterdir()} == {".json", ".safetensors"}


def test_checkpoint_files_have_equal_permissions(tmp_path: Path) -> None:
    """safetensors writes files that only their owner may read."""
    (tmp_path / "plain").touch()
    wanted = (tmp_path / "plain").stat().st_mode
    assert {path.stat().st_mode for path in write(tmp_path, 7).iterdir()} == {wanted}


def test_optimizer_state_round_trip_is_bit_exact(tmp_path: Path) -> None:
    _, before = trained()
    checkpoint = write(tmp_path, 1, before)
    _, after = trained(seed=5)
    load_optimizer_state(checkpoint, after)
    old, new = before.state_dict()["state"], after.state_dict()["state"]
    assert old.keys() == new.keys() and len(old) == 4
    for index in old:
        assert {"exp_avg", "exp_avg_sq", "step"} == old[index].keys() == new[index].keys()
        for name in old[index]:
            assert torch.equal(old[index][name], new[index][name])


def test_optimizer_state_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 1)
    with pytest.raises(CheckpointError, match="0.bias is .3,., the parameter .4,."):
        load_optimizer_state(checkpoint, trained(width=4)[1])
    other = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(build_param_groups(other, weight_decay=0.0), betas=(0.9, 0.95), eps=1e-8)
    with pytest.raises(CheckpointError, match="of another model"):
        load_optimizer_state(checkpoint, optimizer)


def test_rank_state_round_trip_restores_rng_and_stream(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 3)
    expected = random.random(), np.random.rand(), np.random.randn(), torch.rand(3)
    tensors, values = load_rank_state(checkpoint, 0)
    restore_rng_state(tensors, values)
    again = random.random(), np.random.rand(), np.random.randn(), torch.rand(3)
    assert load_loader_states(checkpoint, 1) == [{"step": 3}]
    assert expected[:3] == again[:3] and torch.equal(expected[3], again[3])


def test_rng_values_are_json() -> None:
    _, values = capture_rng_state()
    assert json.loads(json.dumps(values)) == values


def test_latest_checkpoint_skips_unfinished_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path, 2, keep=9)
    write(tmp_path, 4, keep=9).joinpath("run_state.json").unlink()
    write(tmp_path, 6, keep=9).joinpath("model.safetensors").write_bytes(b"wei")
    write(tmp_path, 8, keep=9).joinpath("optimizer.safetensors").unlink()
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / ".unfinished-12").mkdir()
    assert latest_checkpoint(tmp_path) == good
    notes = capsys.readouterr().out
    for reason in ("model.safetensors has 3 bytes instead of 7", "optimizer.safetensors is missing", "no run_state"):
        assert reason in notes
    with pytest.raises(CheckpointError, match="checkpoint is incomplete: model.safetensors has 3 bytes"):
        find_checkpoint(str(tmp_path / "checkpoint-6"), output_dir=tmp_path)


def test_checkpoint_removed_during_check_is_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write(tmp_path, 1)
    look = Path.relative_to

    def dropped(path: Path, *others: Path) -> Path:
        shutil.rmtree(checkpoint, ignore_errors=True)
        return look(path, *others)

    monkeypatch.setattr(Path, "relative_to", dropped)
    assert str(incomplete_reason(checkpoint)).startswith("it cannot be read: No such file or directory: ")


def test_failed_write_leaves_no_checkpoint(tmp_path: Path) -> None:
    earlier = write(tmp_path, 1)

    def full_disk(folder: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, 2, state={}, optimizer=trained()[1], save_model=full_disk, stream={})
    assert list_checkpoints(tmp_path) == [earlier] == [latest_checkpoint(tmp_path)]
    write(tmp_path, 3)
    assert not list(tmp_path.glob(".unfinished*"))


def test_save_keeps_last_checkpoints_and_may_rewrite_a_step(tmp_path: Path) -> None:
    for step in (9, 10, 11, 11):
        write(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-11"]


def test_prune_removes_unfinished_folders_and_images(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-model").mkdir()
    (tmp_path / ".unfinished-loss.png").write_bytes(b"half")
    write(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_kill_during_prune_leaves_complete_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        write(tmp_path, step, keep=2)

    def killed(folder: Path, **options: object) -> None:
        if folder.is_dir():
            (folder / "rank-0.json").unlink()
            raise KeyboardInterrupt  # as abrupt as a kill

    monkeypatch.setattr("hf_videomae.training.checkpoints.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune_checkpoints(tmp_path, keep=1)
    monkeypatch.undo()
    assert [(path.name, incomplete_reason(path)) for path in list_checkpoints(tmp_path)] == [("checkpoint-2", None)]
    prune_checkpoints(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_resume_accepts_folder_of_checkpoints(tmp_path: Path) -> None:
    newest = write(tmp_path / "run", 5)
    assert find_checkpoint(str(tmp_path / "run"), output_dir="elsewhere") == newest
    assert find_checkpoint("auto", output_dir=tmp_path / "run") == newest
    assert find_checkpoint("auto", output_dir=tmp_path / "new") is None
    with pytest.raises(CheckpointError, match="no complete checkpoint-STEP"):
        find_checkpoint(str(tmp_path), output_dir=tmp_path)

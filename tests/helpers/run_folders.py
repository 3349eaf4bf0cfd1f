"""Make folders as runs leave them, with the smallest real model, without training."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEVideoProcessor, run_files

RUN_ID = "0123456789abcdef" * 2


@cache
def _model(folder: Path) -> Path:
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=1, decoder_num_hidden_layers=1)
    VideoMAEForPreTraining(config).save_pretrained(folder)
    VideoMAEVideoProcessor.from_config(config, frame_stride=2).save_pretrained(folder)
    return folder


def save(run: Path, *, step: int, total: int = 100) -> Path:
    """Go on to a step: other weights, more lines, a checkpoint."""
    model, checkpoint = _model(run.parent / "model"), run / f"checkpoint-{step}"
    shutil.copytree(model, checkpoint)
    weights = load_file(model / "model.safetensors")
    save_file({**weights, "mask_token": torch.full((1, 1, 96), float(step))}, checkpoint / "model.safetensors")
    save_file({"exp_avg/mask_token": torch.full((1, 1, 96), float(step))}, checkpoint / "optimizer.safetensors")
    (checkpoint / "rank-0.json").write_text("{}")
    sizes = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    state = {"format": 1, "step": step, "run_id": RUN_ID, "files": sizes}
    (checkpoint / "run_state.json").write_text(json.dumps(state))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step, "lr": 0.1}) + "\n")
    (run / "loss.png").write_bytes(b"picture of %d" % step)
    write_run(run, step=step, total=total, status="running")
    return checkpoint


def finish(run: Path, *, step: int) -> None:
    """Put the model of the last save at the top of the folder."""
    for path in (run / f"checkpoint-{step}").iterdir():
        if path.name not in ("run_state.json", "rank-0.json", "optimizer.safetensors"):
            shutil.copy(path, run / path.name)
    write_run(run, step=step, total=step, status="finished")


def write_run(run: Path, *, step: int, total: int, status: str, **values: Any) -> None:
    facts = {"run_id": RUN_ID, "status": status, "task": "pretrain", "command": "python examples/pretrain.py"}
    facts |= {"data": {"dataset": "motion", "split": "train"}, "parents": [], "recipe": {}}
    run_files.write_json(run / "run.json", {**facts, "steps": step, "total_steps": total, **values})

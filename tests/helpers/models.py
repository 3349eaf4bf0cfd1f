"""Make small models on disk and videos for the tests of inference."""

from pathlib import Path

import numpy as np
import torch

from hf_videomae import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEVideoProcessor,
)
from hf_videomae.data.motion import MotionSource, encode_clip

NAMES = ["boxing", "clapping", "waving"]
KINDS = {"classification": VideoMAEForVideoClassification, "pretraining": VideoMAEForPreTraining}


def save_model(folder: Path, *, task: str = "classification", **fields: object) -> Path:
    torch.manual_seed(0)
    if task == "classification":
        fields = {"head_init_scale": 1.0, "id2label": dict(enumerate(NAMES)), **fields}
    model = KINDS[task](VideoMAEConfig.from_preset("tiny", task=task, num_hidden_layers=3, **fields))
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    model.save_pretrained(folder)
    VideoMAEVideoProcessor.from_config(model.config, frame_stride=2).save_pretrained(folder)
    return folder


def write_video(path: Path, *, index: int = 0, repeat: int = 1) -> Path:
    """Write a motion clip of 24 frames, `repeat` times in a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.concatenate([MotionSource(split="test").frames(index + n) for n in range(repeat)])
    path.write_bytes(encode_clip(frames))
    return path

"""Make small models on disk and videos for the tests of inference."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from hf_videomae import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEVideoProcessor,
)
from hf_videomae.data.motion import MotionSource, encode_clip

_STOCK_VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])
loads_in_stock = pytest.mark.skipif(
    _STOCK_VERSION < (5, 18), reason="stock before 5.18 loads query and value biases as zeros"
)
SMALL_SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
}
NAMES = ["boxing", "clapping", "waving"]
KINDS = {"classification": VideoMAEForVideoClassification, "pretraining": VideoMAEForPreTraining}


def save_model(folder: Path, *, task: str = "classification", frame_stride: int = 2, **fields: object) -> Path:
    """Save a tiny model whose weights are all random, and its processor."""
    torch.manual_seed(0)
    if task == "classification":
        fields = {"head_init_scale": 1.0, "id2label": dict(enumerate(NAMES)), **fields}
    model = KINDS[task](VideoMAEConfig.from_preset("tiny", task=task, num_hidden_layers=3, **fields))
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    model.save_pretrained(folder)
    VideoMAEVideoProcessor.from_config(model.config, frame_stride=frame_stride).save_pretrained(folder)
    return folder


def write_video(path: Path, *, index: int = 0, repeat: int = 1) -> Path:
    """Write a motion clip of 24 frames, `repeat` times in a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.concatenate([MotionSource(split="test").frames(index + n) for n in range(repeat)])
    path.write_bytes(encode_clip(frames))
    return path

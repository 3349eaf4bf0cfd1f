"""Build loaders of small clips, and compare their batches."""

from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from hf_videomae.data import ClipConfig, Loader, build_loader

SMALL_CLIPS = ClipConfig(num_frames=4, stride=2, image_size=32)
SMALL_MASKED_CLIPS = replace(SMALL_CLIPS, grid=(2, 2, 2), mask_ratio=0.75)


def load(source: Any, **options: Any) -> Loader:
    options = {"clip_config": SMALL_MASKED_CLIPS, "batch_size": 3, "seed": 0, **options}
    return build_loader(source, **options)


def take(loader: Loader, steps: int) -> list[dict[str, Any]]:
    batches = iter(loader)
    taken = list(islice(batches, steps))
    batches.close()
    return taken


def ids(batches: list[dict[str, Any]]) -> list[str]:
    return [name for batch in batches for name in batch["sample_ids"]]


def assert_same(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> None:
    assert ids(a) == ids(b)
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one if name != "sample_ids")

"""Test clip configurations of published runs: a stride for each dataset of a mix, padding of short videos."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae import VideoMAEConfig
from hf_videomae.data import Sample, build_loader, open_mixture
from hf_videomae.data.clips import make_clips
from hf_videomae.training import FinetuneRecipe, PretrainRecipe, RecipeError
from hf_videomae.training.finetune_task import build_finetune_clip_config
from hf_videomae.training.pretrain_task import build_pretrain_clip_config
from tests.helpers.datasets_on_disk import write_folder

pytestmark = pytest.mark.fault
CONFIG = VideoMAEConfig.from_preset("tiny")


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Return the indices of the decoded frames, by the name of the video; filled while clips are made."""
    indices: dict[str, list[int]] = {}

    def decode(video: Any, plan: Any, *, name: str | None, **options: Any) -> torch.Tensor:
        indices[str(name)] = plan(int(video), 12.0)
        return torch.zeros(len(indices[str(name)]), 3, 64, 64, dtype=torch.uint8)

    monkeypatch.setattr("hf_videomae.data.clips.decode_clip", decode)
    return indices


def distances(indices: list[int]) -> set[int]:
    return {after - before for before, after in zip(indices, indices[1:], strict=False)}


def frames_of(sample_id: str, total: int, settings: Any, planned: dict[str, list[int]]) -> list[int]:
    make_clips(Sample(id=sample_id, video=str(total).encode()), clip_config=settings, seed=0, epoch=0)
    return planned[sample_id]


def test_clip_config_has_stride_of_each_dataset(tmp_path: Path, planned: dict[str, list[int]]) -> None:
    kinetics, ssv2 = write_folder(tmp_path / "kinetics"), write_folder(tmp_path / "ssv2")
    names = (str(kinetics), str(ssv2), "motion")
    recipe = PretrainRecipe(dataset=names, dataset_strides=(4, 2, 3), frame_stride=7)
    source = open_mixture(recipe.dataset)
    settings = build_pretrain_clip_config(recipe, CONFIG, source)
    strides = [part.name for part in source.parts]
    for name, stride in zip(strides, (4, 2, 3), strict=True):
        assert distances(frames_of(f"{name}:a/b.mp4", 400, settings, planned)) == {stride}
    assert distances(frames_of("elsewhere/a.mp4", 400, settings, planned)) == {7}


def test_loader_decodes_each_dataset_with_its_stride(tmp_path: Path) -> None:
    names = (str(write_folder(tmp_path / "a")), str(write_folder(tmp_path / "b")))
    batches = []
    for strides in ((1, 1), (1, 2)):
        recipe = PretrainRecipe(dataset=names, dataset_strides=strides, num_frames=4, image_size=32)
        source = open_mixture(recipe.dataset)
        config = VideoMAEConfig.from_preset("tiny", **recipe.config_fields())
        loader = build_loader(
            source, clip_config=build_pretrain_clip_config(recipe, config, source), batch_size=8, seed=0, num_workers=0
        )
        batches.append(next(iter(loader)))
    first, second = batches
    assert first["sample_ids"] == second["sample_ids"]
    prefix = f"{open_mixture(names).parts[0].name}:"
    same = [torch.equal(one, two) for one, two in zip(first["pixel_values"], second["pixel_values"], strict=True)]
    assert same == [name.startswith(prefix) for name in first["sample_ids"]]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"dataset": ("a", "b"), "dataset_strides": (4,)}, "1 values"),
        ({"dataset": ("a", "b"), "dataset_strides": (4, 0)}, "1 or more"),
        ({"dataset": "a", "dataset_strides": (4,)}, "frame_stride"),
        ({"dataset": ("a", "b"), "dataset_strides": (4, 2), "frame_seconds": 0.2}, "frame_seconds"),
    ],
)
def test_invalid_dataset_strides_are_refused(settings: dict, word: str) -> None:
    with pytest.raises(RecipeError, match=word):
        PretrainRecipe(**settings)


@pytest.mark.parametrize(
    ("front_pad", "total", "frames"),
    [
        (True, 5, [0, 0, 0, 0, 1, 2, 3, 4]),
        (True, 1, [0] * 8),
        (True, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (False, 5, [0] * 8),
    ],
)
def test_uniform_clips_of_short_videos_follow_front_pad(
    front_pad: bool, total: int, frames: list[int], planned: dict[str, list[int]]
) -> None:
    recipe = FinetuneRecipe(model="tiny", sampling="uniform", front_pad=front_pad)
    settings = build_finetune_clip_config(recipe, CONFIG, class_names=None, stride=4)
    assert frames_of("x.mp4", total, settings, planned) == frames


def test_front_pad_does_not_change_long_videos(planned: dict[str, list[int]]) -> None:
    indices = []
    for front_pad in (False, True):
        recipe = FinetuneRecipe(model="tiny", sampling="uniform", front_pad=front_pad)
        settings = build_finetune_clip_config(recipe, CONFIG, class_names=None, stride=4)
        indices.append(frames_of("x.mp4", 100, settings, planned))
    assert indices[0] == indices[1]
    assert all(12 * segment <= index < 12 * segment + 12 for segment, index in enumerate(indices[0]))


def test_settings_without_effect_are_refused() -> None:
    with pytest.raises(RecipeError, match="front_pad"):
        FinetuneRecipe(model="tiny", front_pad=True)
    with pytest.raises(RecipeError, match="dataset_strides"):
        FinetuneRecipe(model="tiny", sampling="uniform", dataset=("a", "b"), dataset_strides=(4, 2))

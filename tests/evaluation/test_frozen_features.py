"""Test frozen features: they equal the encoder's, in the dataset's order, and bad videos are listed."""

from dataclasses import replace

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor
from hf_videomae.data import DataError, MotionSource, Sample
from hf_videomae.evaluation.frozen_features import AugmentedClips, EvalClips, FrozenFeatures, extract_frozen_features

CONFIG = VideoMAEConfig.from_preset("tiny")


@pytest.fixture(scope="module")
def model() -> VideoMAEModel:
    torch.manual_seed(0)
    return VideoMAEModel(CONFIG)


@pytest.fixture(scope="module")
def processor() -> VideoMAEVideoProcessor:
    return VideoMAEVideoProcessor.from_config(CONFIG, frame_stride=2)


class Broken:
    """A source of motion videos, some of which are broken."""

    name, class_names = "broken", MotionSource().class_names

    def __init__(self, *, count: int = 6, bad: tuple[int, ...] = (1, 4)) -> None:
        self.inner, self.bad = MotionSource(num_videos=count), bad

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        sample = self.inner[index]
        return replace(sample, video=b"no video" * 9) if index in self.bad else sample


class Sharded:
    """A streamed source of motion videos."""

    name, class_names, num_shards = "sharded", MotionSource().class_names, 3

    def __init__(self) -> None:
        self.inner, self.num_samples = MotionSource(num_videos=6), 6

    def read_shard(self, shard: int) -> list[Sample]:
        return [self.inner[2 * shard + row] for row in range(2)]


@torch.no_grad()
def test_features_equal_the_encoder_output(model: VideoMAEModel, processor: VideoMAEVideoProcessor) -> None:
    source = MotionSource(num_videos=3)
    clips = processor(source[1].video, num_views=2)["pixel_values"]
    outputs = model.eval()(clips, output_hidden_states=True)
    views = EvalClips(processor, num_views=2)
    pooled = extract_frozen_features(model, source, clips=views)
    assert pooled.features.shape == (3, 2, 128) and pooled.labels.tolist() == [0, 1, 2]
    assert pooled.sample_ids == [f"train/{i}" for i in range(3)]
    assert torch.allclose(pooled.features[1], outputs.last_hidden_state.mean(1), atol=1e-5)
    per_frame = extract_frozen_features(model, source, clips=views, pool="per_frame", layer=2)
    assert per_frame.features.shape == (3, 2, 4, 128)
    expected = outputs.hidden_states[2].unflatten(1, (4, 16)).mean(2)
    assert torch.allclose(per_frame.features[1], expected, atol=1e-5)
    tokens = extract_frozen_features(model, source, clips=views, pool="tokens", layer=4, batch_size=1)
    assert torch.allclose(tokens.features[1].float(), outputs.last_hidden_state, atol=5e-3)


def test_order_does_not_depend_on_workers(model: VideoMAEModel, processor: VideoMAEVideoProcessor) -> None:
    sources = (Broken(), Sharded())
    for source in sources:
        serial = extract_frozen_features(model, source, clips=EvalClips(processor))
        parallel = extract_frozen_features(model, source, clips=EvalClips(processor), num_workers=2)
        assert serial.sample_ids == parallel.sample_ids and serial.failed == parallel.failed
        assert torch.equal(serial.features, parallel.features)
    assert serial.sample_ids == [f"train/{i}" for i in range(6)]


def test_bad_videos_are_listed_with_their_class(model: VideoMAEModel, processor: VideoMAEVideoProcessor) -> None:
    done: list[int] = []
    result = extract_frozen_features(model, Broken(), clips=EvalClips(processor), progress=done.append)
    assert len(result.labels) == 4 and done == [1, 2, 3, 4, 5, 6]
    assert [(entry["id"], entry["label"]) for entry in result.failed] == [("train/1", 1), ("train/4", 4)]
    assert all(entry["reason"] for entry in result.failed)
    relabeled = result.relabel(list(reversed(result.class_names)))
    assert relabeled.labels.tolist() == [7 - label for label in result.labels.tolist()]
    assert [entry["label"] for entry in relabeled.failed] == [6, 3]
    with pytest.raises(DataError, match="none of the 3 videos"):
        extract_frozen_features(model, Broken(count=3, bad=(0, 1, 2)), clips=EvalClips(processor))


def test_augmented_clips_are_random_and_repeatable(processor: VideoMAEVideoProcessor) -> None:
    sample = MotionSource(num_videos=1)[0]
    first, again = (AugmentedClips(processor, count=3, seed=5)(sample) for _ in range(2))
    assert first.shape == (3, 8, 3, 64, 64) and torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(AugmentedClips(processor, count=1, seed=5)(sample)[0], first[0])
    assert not torch.equal(AugmentedClips(processor, count=1, seed=6)(sample)[0], first[0])
    assert abs(float(first.mean())) < 2 and 0.2 < float(first.std()) < 2  # normalized once


def test_model_keeps_its_training_mode(model: VideoMAEModel, processor: VideoMAEVideoProcessor) -> None:
    model.train()
    extract_frozen_features(model, MotionSource(num_videos=1), clips=EvalClips(processor))
    assert model.training


def test_invalid_settings_are_refused(model: VideoMAEModel, processor: VideoMAEVideoProcessor) -> None:
    source, views = MotionSource(num_videos=2), EvalClips(processor)
    with pytest.raises(ValueError, match="layer is 5"):
        extract_frozen_features(model, source, clips=views, layer=5)
    with pytest.raises(ValueError, match="pool is 'max'"):
        extract_frozen_features(model, source, clips=views, pool="max")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="GiB allowed; pool them more"):
        extract_frozen_features(model, source, clips=views, max_bytes=100)
    unlabeled = MotionSource(num_videos=2)
    unlabeled.class_names = None
    with pytest.raises(DataError, match="has no labels"):
        extract_frozen_features(model, unlabeled, clips=views)
    unlabeled.class_names = ["move_left"]
    with pytest.raises(DataError, match="train/1 has the label 1, but the classes are 0 to 0"):
        extract_frozen_features(model, unlabeled, clips=views)


def test_nan_weights_are_reported(processor: VideoMAEVideoProcessor) -> None:
    broken = VideoMAEModel(CONFIG)
    with torch.no_grad():
        broken.encoder.layer[0].output.dense.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="features of train/0 are not finite"):
        extract_frozen_features(broken, MotionSource(num_videos=1), clips=EvalClips(processor))


def test_relabel_refuses_unknown_classes() -> None:
    features = FrozenFeatures(torch.zeros(1, 1, 2), torch.tensor([0]), ["a"], ["dog"], [])
    with pytest.raises(DataError, match="'dog' is tested but never trained"):
        features.relabel(["cat"])

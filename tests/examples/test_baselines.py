"""Test the baselines: one repeated frame, geometry, frame features and kernel ridge."""

from pathlib import Path

import pytest
import torch
from compare.baselines import (
    expand_middle_frame,
    kernel_ridge,
    middle_frame_features,
    repeat_middle_frame,
    video_geometry,
)

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification
from hf_videomae.data import MotionSource, Source, open_source
from tests.helpers.models import write_video


@torch.no_grad()
def test_model_sees_one_frame_only_within_the_block() -> None:
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_labels=3, head_init_scale=1.0)
    model = VideoMAEForVideoClassification(config).eval()
    clips = torch.randn(2, 8, 3, 64, 64)
    still = clips[:, 4:5].repeat(1, 8, 1, 1, 1)
    whole, expected = model(clips).logits, model(still).logits
    with repeat_middle_frame(model):
        assert torch.equal(model(pixel_values=clips).logits, expected)
        assert torch.equal(model(clips).logits, expected)
        assert torch.equal(model(pixel_values=clips.flip(1).roll(1, 1)).logits, expected)  # its order is gone
    assert torch.equal(model(clips).logits, whole) and not torch.equal(whole, expected)
    assert torch.equal(expand_middle_frame(clips), still)


def test_error_in_the_block_removes_the_hook() -> None:
    model = torch.nn.Identity()
    with pytest.raises(RuntimeError), repeat_middle_frame(model):
        raise RuntimeError
    assert not model._forward_pre_hooks


def test_kernel_ridge_matches_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(20, 2, generator=generator), torch.randn(5, 2, generator=generator)
    labels = (train[:, 0] > 0).long() + (train[:, 1] > 0).long()
    train_scaled = ((train - train.mean(0)) / train.std(0, correction=0)).double()
    test_scaled = ((test - train.mean(0)) / train.std(0, correction=0)).double()
    kernel = torch.tensor([[float((-0.3 * (a - b).square().sum()).exp()) for b in train_scaled] for a in train_scaled])
    cross = torch.tensor([[float((-0.3 * (a - b).square().sum()).exp()) for b in train_scaled] for a in test_scaled])
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    weights = torch.linalg.inv(kernel + 0.1 * torch.eye(20)) @ (one_hot - one_hot.mean(0))
    assert torch.equal(kernel_ridge(train, labels, test, num_classes=3), (cross @ weights + one_hot.mean(0)).argmax(1))
    assert (kernel_ridge(train, labels, train, num_classes=3) == labels).float().mean() > 0.8


def test_kernel_ridge_ignores_a_constant_feature() -> None:
    train = torch.tensor([[0.0, 5.0], [0.1, 5.0], [1.0, 5.0], [1.1, 5.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert kernel_ridge(train, labels, train, num_classes=2).tolist() == labels.tolist()


def test_features_of_motion_videos_are_finite_and_repeatable() -> None:
    source = MotionSource(num_videos=3)
    assert video_geometry(source, range(3)).tolist() == [[1.0, 24.0]] * 3
    features = middle_frame_features(source, [0, 2])
    assert features.shape == (2, 192) and torch.isfinite(features).all()
    assert torch.equal(features[1], middle_frame_features(source, [2])[0])


def test_geometry_matches_a_real_clip(data_dir: Path) -> None:
    source = open_source(str(data_dir), require_labels=True)
    assert isinstance(source, Source)
    index = next(i for i in range(len(source)) if source[i].id == "hand_shaking/set1_seq01_004.avi")
    # The index file says 428 x 312 and 183 frames that decode.
    assert video_geometry(source, [index])[0].tolist() == pytest.approx([428 / 312, 183])


def test_baselines_read_the_segments_of_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "two.mp4", repeat=2)  # two motion clips of 24 frames, at 12 frames per second
    (tmp_path / "index.csv").write_text("path,label,start,end\ntwo.mp4,a,,2\ntwo.mp4,b,2,\ntwo.mp4,c,,\n")
    source = open_source(str(tmp_path), require_labels=True)
    assert isinstance(source, Source)
    assert video_geometry(source, [0, 1, 2])[:, 1].tolist() == [24, 24, 48]
    first, second = middle_frame_features(source, [0, 1])
    assert not torch.equal(first, second)

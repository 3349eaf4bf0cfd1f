"""Test mixup and cutmix against results by hand: targets follow the pixels, and time is never cut."""

import pytest
import torch

from hf_videomae.training.mixup import MixupCutmix, cutmix, cutmix_lambda, mixup, rand_bbox, smooth_targets


def test_smoothed_targets_equal_timm() -> None:
    # off = 0.1 / 4, on = 1 - 0.1 + off
    expected = torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]])
    assert torch.allclose(smooth_targets(torch.tensor([2, 0]), num_classes=4, smoothing=0.1), expected)


def test_mixup_matches_hand_computation() -> None:
    clips = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1, 1).expand(3, 2, 3, 4, 4)
    mixed = mixup(clips, 0.75)
    assert torch.allclose(mixed[:, 0, 0, 0, 0], torch.tensor([1.5, 2.0, 2.5]))  # 0.75 x 1 + 0.25 x 3, ...
    assert torch.allclose(mixup(torch.eye(3), 0.75), torch.tensor([[0.75, 0, 0.25], [0, 1.0, 0], [0.25, 0, 0.75]]))


def test_cutmix_changes_height_and_width_only() -> None:
    clips = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 8, 3, 6, 10)
    mixed = cutmix(clips, (1, 4, 2, 7))
    inside = torch.zeros(6, 10, dtype=torch.bool)
    inside[1:4, 2:7] = True
    for clip, (own, partner) in zip(mixed, ((0, 1), (1, 0)), strict=True):
        for frame in clip.flatten(0, 1):  # equal in every frame and channel
            assert (frame[inside] == partner).all() and (frame[~inside] == own).all()
    assert cutmix_lambda(6, 10, (1, 4, 2, 7)) == 1 - 15 / 60
    assert (clips[0] == 0).all()


def test_boxes_equal_timm() -> None:
    for _ in range(200):
        top, bottom, left, right = rand_bbox(32, 64, 0.75)
        # sqrt(1 - 0.75) = 0.5: 16 x 32, smaller at the edges
        assert 0 <= top <= bottom <= 32 and 0 <= left <= right <= 64
        assert bottom - top <= 16 and right - left <= 32
        if 0 < top and bottom < 32:
            assert bottom - top == 16
    assert rand_bbox(32, 64, 1.0)[0] == rand_bbox(32, 64, 1.0)[1] or cutmix_lambda(32, 64, rand_bbox(32, 64, 1.0)) == 1


def test_cutmix_targets_follow_the_pixels() -> None:
    clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 2, 1, 20, 20)
    targets, kinds = torch.eye(4), set()
    for _ in range(60):
        mixed, soft = MixupCutmix()(clips, targets)
        assert mixed.shape == clips.shape and torch.allclose(soft.sum(1), torch.ones(4))
        # The mean of each clip is the mean of the class numbers under its target, for mixup and for cutmix.
        assert torch.allclose(mixed.mean((1, 2, 3, 4)), soft @ torch.arange(4.0), atol=1e-5)
        kinds.add(bool((mixed == mixed.round()).all()))
    assert kinds == {True, False}


def test_mixing_probabilities_select_mixup_or_cutmix() -> None:
    clips, targets = torch.rand(4, 2, 3, 8, 8), torch.eye(4)
    for off in (MixupCutmix(prob=0), MixupCutmix(mixup=0, cutmix=0)):
        assert not off.is_enabled and off(clips, targets)[0] is clips
    alone = MixupCutmix(mixup=0, cutmix=1)(clips, targets)[0]
    assert ((alone == clips) | (alone == clips.flip(0))).all()
    assert sum(MixupCutmix(prob=0.3)(clips, targets)[0] is clips for _ in range(400)) == pytest.approx(280, abs=40)


@pytest.mark.parametrize("wrong", [{"mixup": -1}, {"cutmix": float("nan")}, {"prob": 2}, {"switch_prob": -0.1}])
def test_invalid_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MixupCutmix(**wrong)

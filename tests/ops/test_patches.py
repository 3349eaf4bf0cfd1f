"""Test cubes, targets and positions against plain loops."""

import math

import pytest
import torch

from hf_videomae.ops import patches

CUBE = (2, 4, 4)


def test_cubes_are_in_raster_order_and_round_trip() -> None:
    video = torch.randn(2, 4, 3, 8, 12)
    cut = patches.patchify(video, CUBE)
    assert cut.shape == (2, 12, 3, 32)
    # token (t, h, w) = (1, 0, 2) is number 1 * 6 + 0 * 3 + 2 = 8
    assert torch.equal(cut[1, 8].view(3, 2, 4, 4), video[1, 2:4, :, 0:4, 8:12].transpose(0, 1))
    assert torch.equal(patches.unpatchify(cut, CUBE, (2, 2, 3)), video)


def test_gathered_patches_match_patchify() -> None:
    video = torch.randn(2, 4, 3, 8, 12)
    index = torch.tensor([[0, 5, 11], [8, 3, 4]])
    expected = torch.stack([patches.patchify(video, CUBE)[b, index[b]] for b in range(2)])
    assert torch.equal(patches.gather_patches(video, CUBE, index), expected)


def test_targets_match_a_loop() -> None:
    """Targets are per channel, over the cube's pixels, unbiased, epsilon outside the root, channels last."""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    video = torch.rand(1, 2, 3, 4, 4)
    normalized = (video - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    found = patches.pixel_targets(patches.patchify(normalized, CUBE), mean=mean, std=std, normalize=True)
    assert found.shape == (1, 1, 96)
    for channel in range(3):
        values = video[0, :, channel].flatten().tolist()
        center = sum(values) / 32
        scale = math.sqrt(sum((value - center) ** 2 for value in values) / 31) + 1e-6
        for place, value in enumerate(values):
            assert found[0, 0, 3 * place + channel].item() == pytest.approx((value - center) / scale, abs=1e-4)


def test_pixel_targets_without_normalization_are_the_pixels() -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    video = torch.rand(1, 2, 3, 4, 4)
    normalized = (video - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    found = patches.pixel_targets(patches.patchify(normalized, CUBE), mean=mean, std=std, normalize=False)
    expected = video.permute(0, 1, 3, 4, 2).reshape(1, 1, 96)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_targets_are_float32_and_flat_cubes_are_finite() -> None:
    flat = torch.zeros(1, 1, 3, 32, dtype=torch.bfloat16)
    found = patches.pixel_targets(flat, mean=[0.5] * 3, std=[0.5] * 3, normalize=True)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert found.abs().max() < 0.5


def test_predicting_zero_scores_one() -> None:
    """Predicting the mean has a loss of 1 minus the unbiased variance's 1 / P, on cubes that are not flat."""
    target = patches.pixel_targets(torch.randn(2, 5, 3, 512), mean=[0.5] * 3, std=[0.5] * 3, normalize=True)
    assert target.square().mean().item() == pytest.approx(511 / 512, abs=1e-4)


def test_sinusoid_is_over_the_flat_token_number() -> None:
    table = patches.sinusoid_table(30, 6)
    for n in (0, 1, 7, 29):
        for j in range(6):
            angle = n / 10000 ** (2 * (j // 2) / 6)
            expected = math.sin(angle) if j % 2 == 0 else math.cos(angle)
            assert table[n, j].item() == pytest.approx(expected, abs=1e-7)


def test_interpolation_keeps_equal_grids_and_smooth_tables() -> None:
    table = patches.sinusoid_table(32, 8)
    assert patches.interpolate_positions(table, source=(2, 4, 4), target=(2, 4, 4)) is table
    rows = torch.arange(4.0)[None, :, None].expand(2, 4, 4)  # the table of a quantity that grows along h alone
    wider = patches.interpolate_positions(rows.reshape(32, 1), source=(2, 4, 4), target=(4, 8, 6)).view(4, 8, 6)
    assert (wider[:, 1:] > wider[:, :-1]).all(), "still grows along h"
    torch.testing.assert_close(wider, wider[:1, :, :1].expand_as(wider), atol=1e-6, rtol=0)


def test_interpolation_over_time_alone_is_linear() -> None:
    table = torch.tensor([0.0, 1.0])[:, None]
    found = patches.interpolate_positions(table, source=(2, 1, 1), target=(4, 1, 1))
    assert found.flatten().tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])


@pytest.mark.parametrize(
    ("frames", "height", "width", "word"), [(3, 8, 8, "frames"), (4, 9, 8, "height"), (4, 8, 0, "width")]
)
def test_clips_that_cannot_be_cut_are_refused(frames: int, height: int, width: int, word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} = "):
        patches.token_grid(num_frames=frames, height=height, width=width, cube=CUBE)

"""Test RandAugment and random erasing: Pillow's pixels, one draw for all frames, the published ranges."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from hf_videomae.video.randaugment import OPERATIONS, Operation, RandAugment, apply_operation, random_erasing

AFFINE, FILL = Image.Transform.AFFINE, (128, 128, 128)
Picture = Image.Image


def clip(frames: int = 3, height: int = 40, width: int = 56) -> Tensor:
    """Return smooth colors with some noise; noise alone would hide resampling errors."""
    coarse = torch.rand(frames, 3, 5, 7) * 200 + 20
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return (smooth + 6 * torch.randn(frames, 3, height, width)).clamp(0, 255).to(torch.uint8)


def pillow(frames: Tensor, operation: Callable[[Picture], Picture]) -> Tensor:
    pictures = [operation(Image.fromarray(frame.permute(1, 2, 0).numpy())) for frame in frames]
    return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])


def warp(picture: Picture, *matrix: float) -> Picture:
    return picture.transform(picture.size, AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=FILL)


# What timm's operations do at magnitude 7 of 10.
AT_SEVEN: dict[str, tuple[float, Callable[[Picture], Picture]]] = {
    "auto_contrast": (0.0, ImageOps.autocontrast),
    "equalize": (0.0, ImageOps.equalize),
    "invert": (0.0, ImageOps.invert),
    "rotate": (21.0, lambda p: p.rotate(21, resample=Image.Resampling.BILINEAR, fillcolor=FILL)),
    "posterize": (2.8, lambda p: ImageOps.posterize(p, 2)),
    "solarize": (179.2, lambda p: ImageOps.solarize(p, 77)),
    "solarize_add": (77.0, lambda p: p.point([min(255, i + 77) if i < 128 else i for i in range(256)] * 3)),
    "color": (0.63, lambda p: ImageEnhance.Color(p).enhance(1.63)),
    "contrast": (0.63, lambda p: ImageEnhance.Contrast(p).enhance(1.63)),
    "brightness": (0.63, lambda p: ImageEnhance.Brightness(p).enhance(1.63)),
    "sharpness": (0.63, lambda p: ImageEnhance.Sharpness(p).enhance(1.63)),
    "shear_x": (0.21, lambda p: warp(p, 1, 0.21, 0, 0, 1, 0)),
    "shear_y": (0.21, lambda p: warp(p, 1, 0, 0, 0.21, 1, 0)),
    "translate_x": (0.315, lambda p: warp(p, 1, 0, 0.315 * p.size[0], 0, 1, 0)),
    "translate_y": (0.315, lambda p: warp(p, 1, 0, 0, 0, 1, 0.315 * p.size[1])),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_operations_match_pillow(name: str) -> None:
    argument, reference = AT_SEVEN[name]
    assert OPERATIONS[name].argument(0.7) == pytest.approx(argument)
    frames = clip()
    ours = apply_operation(frames, Operation(name, argument), interpolation="bilinear")
    assert ours.dtype == torch.uint8 and ours.shape == frames.shape
    difference = (ours.int() - pillow(frames, reference).int()).abs()
    assert difference.float().mean() < 0.6 and (difference > 1).float().mean() < 0.002, difference.max()


@pytest.mark.parametrize(("name", "change"), [("color", -0.63), ("contrast", -0.63), ("sharpness", -0.63)])
def test_enhancements_go_both_ways(name: str, change: float) -> None:
    frames, enhancer = clip(), getattr(ImageEnhance, name.capitalize())
    expected = pillow(frames, lambda picture: enhancer(picture).enhance(1 + change))
    assert (apply_operation(frames, Operation(name, change)).int() - expected.int()).abs().max() <= 1


def test_flat_and_tiny_frames_stay_unchanged() -> None:
    flat = torch.full((2, 3, 2, 2), 9, dtype=torch.uint8)
    for name in ("auto_contrast", "equalize", "sharpness"):
        assert torch.equal(apply_operation(flat, Operation(name, 0.5)), flat)


def test_geometry_fills_outside_with_gray() -> None:
    frames = torch.zeros(2, 3, 10, 20, dtype=torch.uint8)
    for interpolation in ("bilinear", "bicubic"):
        moved = apply_operation(frames, Operation("translate_x", 0.45), interpolation=interpolation)  # type: ignore[arg-type]
        assert (moved[..., :11] == 0).all() and (moved[..., 11:] == 128).all()  # by 9 pixels


def test_bicubic_is_sharper_than_bilinear_and_close_to_pillow() -> None:
    frames = clip()
    argument, _ = AT_SEVEN["rotate"]
    ours = apply_operation(frames, Operation("rotate", argument))
    cubic = pillow(frames, lambda p: p.rotate(argument, resample=Image.Resampling.BICUBIC, fillcolor=FILL))
    assert (ours.int() - cubic.int()).abs().float().mean() < 1.5


def test_all_frames_get_the_same_draw() -> None:
    augment = RandAugment.parse("rand-m7-n4-mstd0.5-inc1")
    still = clip(frames=1).expand(4, -1, -1, -1)
    for seed in range(20):
        augmented = augment(still, generator=torch.Generator().manual_seed(seed))
        assert all(torch.equal(frame, augmented[0]) for frame in augmented)


def test_published_policy_draws_within_its_ranges() -> None:
    augment = RandAugment.parse("rand-m7-n4-mstd0.5-inc1")
    assert (augment.magnitude, augment.num_operations, augment.magnitude_std) == (7, 4, 0.5)
    generator = torch.Generator().manual_seed(0)
    drawn = [augment.draw(generator=generator) for _ in range(3000)]
    counts = Counter(operation.name for operations in drawn for operation in operations)
    assert set(counts) == set(OPERATIONS) and len(OPERATIONS) == 15
    assert sum(counts.values()) / 3000 == pytest.approx(2.0, abs=0.06)  # half of four
    angles = torch.tensor([op.argument for operations in drawn for op in operations if op.name == "rotate"])
    assert angles.abs().mean().item() == pytest.approx(21, abs=0.4) and angles.abs().max() <= 30
    assert angles.abs().std().item() == pytest.approx(1.5, abs=0.25)  # 0.5 of 10 x 30 degrees
    assert 0.4 < (angles > 0).float().mean() < 0.6
    added = [op.argument for operations in drawn for op in operations if op.name == "solarize_add"]
    assert min(added) > 0


def test_same_seed_draws_the_same_operations() -> None:
    augment, frames = RandAugment(), clip()
    one, again, other = (augment(frames, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("text", ["rand", "rand-m7-n4", "augmix-m3", "rand-m7-n4-inc1-w0", "rand-m11-inc1", ""])
def test_unknown_policies_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RandAugment"):
        RandAugment.parse(text)


def test_frames_that_are_not_uint8_rgb_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        RandAugment()(torch.zeros(2, 3, 8, 8))


def test_erasing_uses_one_box_and_new_noise_per_frame() -> None:
    frames, generator = torch.full((6, 3, 32, 48), 7.0), torch.Generator().manual_seed(0)
    for _ in range(20):
        erased = random_erasing(frames, probability=1.0, generator=generator)
        changed = erased != frames
        assert torch.equal(changed.all(1), changed.any(1)) and all(torch.equal(box, changed[0]) for box in changed)
        rows, columns = changed[0, 0].any(1), changed[0, 0].any(0)
        assert changed[0, 0].sum() == rows.sum() * columns.sum()  # a full box
        assert 0.015 < changed[0, 0].float().mean() < 0.35
        noise = erased[changed].view(6, -1)
        assert not torch.equal(noise[0], noise[1]) and abs(noise.mean()) < 0.3 and 0.8 < noise.std() < 1.2
    assert (frames == 7).all()


def test_a_quarter_of_clips_is_erased() -> None:
    frames, generator = torch.zeros(1, 1, 16, 16), torch.Generator().manual_seed(0)
    hits = sum(bool(random_erasing(frames, generator=generator).any()) for _ in range(1000))
    assert 200 < hits < 300
    assert random_erasing(frames, probability=0.0) is frames


def test_erasing_refuses_uint8_frames() -> None:
    with pytest.raises(ValueError, match="normalized"):
        random_erasing(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="probability"):
        random_erasing(torch.zeros(1, 3, 8, 8), probability=2)

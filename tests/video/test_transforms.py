"""Test transforms against PIL and hand-computed values, and that all frames of a clip are treated alike."""

import itertools

import numpy as np
import pytest
import torch

from hf_videomae.video.transforms import (
    center_crop,
    fixed_offsets,
    horizontal_flip,
    multi_scale_crop,
    multi_scale_shapes,
    normalize,
    random_resized_crop,
    resize,
    resize_short_side,
    spatial_crop,
    to_float,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator())


def coordinates(height: int, width: int) -> torch.Tensor:
    """Return (2, 2, H, W) floats: channel 0 is the row, channel 1 the column, the same in both frames."""
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.float32)[None, :].expand(height, width)
    return torch.stack([rows, columns]).expand(2, 2, height, width).clone()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# resizing


@pytest.mark.parametrize("size", [(24, 40), (100, 70), (1, 1), (8, 1), (1, 8), (37, 53)])
def test_resize_matches_pil_bilinear(size: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image")
    frames = noise(2, 3, 53, 71)
    resized = resize(frames, size)
    assert resized.dtype == torch.uint8
    for frame, ours in zip(frames, resized, strict=True):
        pil = image.fromarray(frame.permute(1, 2, 0).numpy()).resize(size[::-1], image.Resampling.BILINEAR)
        assert (ours.permute(1, 2, 0).int() - torch.from_numpy(np.array(pil)).int()).abs().max() <= 1


def test_resize_without_antialias_reads_only_the_two_nearest_pixels() -> None:
    line = torch.tensor([0, 0, 0, 0, 100, 200, 0, 0], dtype=torch.uint8).expand(1, 3, 8, 8).contiguous()
    assert resize(line, (8, 2), antialias=False)[0, 0, 0].tolist() == [0, 100]  # means of pixels 1, 2 and of 5, 6
    assert resize(line, (8, 2))[0, 0, 0].tolist() != [0, 100]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(17, 21), (8, 1), (1, 1)])
def test_resize_uint8_agrees_with_float_for_any_channels(
    channels: int, antialias: bool, size: tuple[int, int]
) -> None:
    frames = noise(2, channels, 30, 45)
    by_floats = resize(frames.float(), size, antialias=antialias)
    for layout in (frames, frames.contiguous(memory_format=torch.channels_last)):
        by_bytes = resize(layout, size, antialias=antialias)
        assert (by_bytes.float() - by_floats).abs().max() <= 1.0


@pytest.mark.parametrize(
    ("shape", "expected"), [((240, 320), (224, 298)), ((320, 240), (298, 224)), ((1, 1), (224, 224))]
)
def test_short_side_is_resized_and_proportions_kept(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_short_side(noise(1, 3, *shape), 224).shape[-2:] == expected


# crops


def test_center_and_spatial_crops_cut_the_right_places() -> None:
    wide, tall = coordinates(4, 11), coordinates(11, 4)
    assert center_crop(wide, (2, 4))[0, :, 0, 0].tolist() == [1, 3]
    lefts = [spatial_crop(wide, (4, 4), index=index)[0, 1, 0, 0].item() for index in range(3)]
    tops = [spatial_crop(tall, (4, 4), index=index)[0, 0, 0, 0].item() for index in range(3)]
    assert lefts == tops == [0, 3, 7]  # int(k * (11 - 4) / 2)
    assert spatial_crop(wide, (4, 4), index=0, count=1)[0, 1, 0, 0].item() == 3


def test_crops_larger_than_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot crop 5x4 from frames of 4x11"):
        center_crop(coordinates(4, 11), (5, 4))
    with pytest.raises(ValueError, match="index"):
        spatial_crop(coordinates(4, 11), (4, 4), index=3)


def test_multi_scale_has_ten_shapes() -> None:
    assert multi_scale_shapes((400, 500), (224, 224)) == [
        (400, 400), (400, 350), (350, 400), (350, 350), (350, 300), (300, 350), (300, 300), (300, 264), (264, 300),
        (264, 264),
    ]  # fmt: skip


def test_multi_scale_sides_near_the_target_snap_to_it() -> None:
    # 256 * (1, .875, .75, .66) = 256, 224, 192, 168; with 257 the second is 224.875 -> 224, with 258 it is 225 -> 224
    sides = [height for height, width in multi_scale_shapes((258, 340), (224, 224)) if height == width]
    assert sides == [258, 224, 193, 170]
    # the target may be larger than the frame: the crop never is
    assert max(max(shape) for shape in multi_scale_shapes((223, 223), (224, 224))) == 223


def test_multi_scale_shapes_of_tiny_frames_and_other_targets() -> None:
    assert set(multi_scale_shapes((1, 1), (64, 64))) == {(1, 1)}
    assert multi_scale_shapes((400, 400), (112, 224))[0] == (200, 400)  # the largest box of the target's shape


def test_fixed_offsets_are_thirteen() -> None:
    places = fixed_offsets(10, 21)  # quarters of 2 and 5
    assert len(places) == len(set(places)) == 13
    corners_and_center = {(0, 0), (0, 20), (8, 0), (8, 20), (4, 10)}
    sides = {(4, 0), (4, 20), (8, 10), (0, 10)}
    quarters = {(2, 5), (2, 15), (6, 5), (6, 15)}
    assert set(places) == corners_and_center | sides | quarters


def test_multi_scale_crop_reaches_every_shape_at_every_place() -> None:
    """The corners of a cropped and resized coordinate map name the box that was cut."""
    frames, randomness, boxes = coordinates(60, 90), generator(), set()
    for _ in range(3000):
        crop = multi_scale_crop(frames, (40, 40), generator=randomness)
        assert crop.shape == (2, 2, 40, 40) and torch.equal(crop[0], crop[1])
        center = crop[0].mean(dim=(1, 2))
        slope = crop[0, 0, 30, 0] - crop[0, 0, 10, 0], crop[0, 1, 0, 30] - crop[0, 1, 0, 10]
        sides = tuple(round(float(value) * 2) for value in slope)
        boxes.add((sides, tuple((2 * center - torch.tensor(sides) + 1).div(2).round().int().tolist())))
    shapes = multi_scale_shapes((60, 90), (40, 40))
    expected = {((h, w), place) for h, w in shapes for place in fixed_offsets(60 - h, 90 - w)}
    assert len(shapes) == 10
    assert boxes == expected


def test_random_resized_crop_stays_inside_and_within_its_bounds() -> None:
    frames, randomness, areas = coordinates(50, 80), generator(), []
    for _ in range(300):
        crop = random_resized_crop(frames, (20, 20), generator=randomness, scale=(0.2, 0.6))
        assert crop.shape == (2, 2, 20, 20) and torch.equal(crop[0], crop[1])
        height = float(crop[0, 0, 14, 0] - crop[0, 0, 4, 0]) * 2
        width = float(crop[0, 1, 0, 14] - crop[0, 1, 0, 4]) * 2
        assert 0.7 < width / height < 1.4
        areas.append(height * width / 4000)
    assert 0.18 < min(areas) < 0.25 and 0.55 < max(areas) < 0.62


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_random_crops_fit_extreme_frames(shape: tuple[int, int], dtype: torch.dtype) -> None:
    frames = noise(3, 5, *shape).to(dtype)
    for crop in (multi_scale_crop, random_resized_crop):
        cropped = crop(frames, (16, 24), generator=generator())
        assert cropped.shape == (3, 5, 16, 24) and cropped.dtype == dtype


@pytest.mark.parametrize("transform", [multi_scale_crop, random_resized_crop])
def test_random_crops_are_seeded_without_global_state(transform) -> None:  # noqa: ANN001
    frames, before = noise(2, 3, 40, 60), torch.get_rng_state()
    first, again, other = (transform(frames, (32, 32), generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


# values


def test_flip_mirrors_all_frames_or_none() -> None:
    frames, randomness = noise(4, 3, 5, 6), generator()
    assert torch.equal(horizontal_flip(frames), frames.flip(-1))
    assert horizontal_flip(frames, probability=0.0) is frames
    outcomes = [horizontal_flip(frames, generator=randomness, probability=0.5) for _ in range(40)]
    flipped = [torch.equal(outcome, frames.flip(-1)) for outcome in outcomes]
    assert all(flip or torch.equal(outcome, frames) for flip, outcome in zip(flipped, outcomes, strict=True))
    assert 10 < sum(flipped) < 30


def test_to_float_scales_uint8_to_one() -> None:
    frames = noise(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    floats = to_float(frames)
    assert floats.dtype == torch.float32 and floats.is_contiguous()
    assert torch.equal(floats, frames.float() / 255)
    assert torch.equal(to_float(floats), floats)


def test_normalize_matches_the_formula_and_keeps_its_input() -> None:
    frames = noise(2, 3, 4, 5)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = (frames.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    floats = to_float(frames)
    kept = floats.clone()
    for given in (frames, floats):
        assert torch.allclose(normalize(given, mean, std).double(), expected, atol=1e-5)
    assert torch.equal(floats, kept)
    gray = normalize(noise(2, 1, 4, 5), [0.5], [0.5])
    assert -1 <= gray.min() < gray.max() <= 1


def test_normalize_refuses_other_channel_counts() -> None:
    with pytest.raises(ValueError, match="mean has 3 values, the frames have 2 channels"):
        normalize(noise(1, 2, 4, 4), [0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match="std must be positive"):
        normalize(noise(1, 3, 4, 4), [0.5], [0.0])


def test_malformed_input_is_refused() -> None:
    frames = noise(1, 3, 8, 8)
    for wrong, size in itertools.product((frames[0], frames[:0], frames.int()), ((4, 4),)):
        with pytest.raises(ValueError, match="frames must be"):
            resize(wrong, size)
    for size in (8, (8,), (0, 8)):
        with pytest.raises(ValueError, match="size must be"):
            resize(frames, size)  # type: ignore[arg-type]

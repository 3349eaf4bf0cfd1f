"""Test that the views of a test match the paper's code: frames, crops and filter."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hf_videomae.data.motion import encode_clip
from hf_videomae.video import views as views_module
from hf_videomae.video.sampling import ClipSampler
from hf_videomae.video.views import (
    DecodedViews,
    MultiViewConfig,
    build_views,
    decode_views,
    parse_views,
    resize_views,
    sliding_window_indices,
)

PLAIN = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}


class FakeReader:
    """Frames whose pixels hold their frame, row and column in channels 0, 1, 2."""

    def __init__(self, num_frames: int, height: int, width: int) -> None:
        self.num_frames, self.height, self.width = num_frames, height, width

    def frames(self, indices: list[int]) -> torch.Tensor:
        frames = torch.zeros(len(indices), 3, self.height, self.width, dtype=torch.uint8)
        frames[:, 0] = torch.tensor(indices, dtype=torch.uint8)[:, None, None]
        frames[:, 1] = torch.arange(self.height, dtype=torch.uint8)[:, None]
        frames[:, 2] = torch.arange(self.width, dtype=torch.uint8)
        return frames

    def sample_indices(
        self, index_fn: Callable[[int, float], list[list[int]]], *, frame_seconds: None
    ) -> list[list[int]]:
        return index_fn(self.num_frames, 25.0)

    def __enter__(self) -> "FakeReader":
        return self

    def __exit__(self, *_: object) -> None: ...


def coordinates(
    monkeypatch: pytest.MonkeyPatch, plan: MultiViewConfig, *video: int
) -> list[tuple[list[int], int, int]]:
    """Return (frames, top, left) of each view of a video."""
    monkeypatch.setattr(views_module, "open_video", lambda *args, **kwargs: FakeReader(*video))
    clips = (build_views(decode_views("x.mp4", plan=plan), plan=plan) * 255).round().int()
    return [(clip[:, 0, 0, 0].tolist(), int(clip[0, 1, 0, 0]), int(clip[0, 2, 0, 0])) for clip in clips]


def published(num_frames: int, height: int, width: int, *, segments: int, crops: int, side: int) -> list[tuple]:
    """Return the test views of a video at its size, by the published formulas (traps 33 and 37)."""
    kept = list(range(0, num_frames, 4))
    kept += [kept[-1]] * (16 - len(kept))
    found = []
    for segment in range(segments):
        start = int(segment * max((len(kept) - 16) / (segments - 1), 0))
        for crop in range(crops):
            offset = int(crop * ((max(height, width) - side) / (crops - 1)))
            found.append((kept[start : start + 16], offset if height >= width else 0, offset if width > height else 0))
    return found


@pytest.mark.parametrize("video", [(250, 64, 97), (250, 103, 64), (70, 64, 64), (9, 64, 85)])
@pytest.mark.parametrize(("segments", "crops"), [(5, 3), (2, 3), (10, 3)])
def test_views_match_the_published_test(
    monkeypatch: pytest.MonkeyPatch, video: tuple[int, int, int], segments: int, crops: int
) -> None:
    plan = MultiViewConfig(clip=ClipSampler(views=segments), crops=crops, size=(64, 64), **PLAIN)
    expected = published(*video, segments=segments, crops=crops, side=64)
    assert coordinates(monkeypatch, plan, *video) == expected


def test_uniform_views_and_a_single_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = MultiViewConfig(clip=ClipSampler(num_frames=4, mode="uniform", views=2), crops=1, size=(64, 64), **PLAIN)
    found = coordinates(monkeypatch, plan, 40, 64, 100)
    assert found == [([0, 10, 20, 30], 0, 18), ([5, 15, 25, 35], 0, 18)]
    single = MultiViewConfig(clip=ClipSampler(), crops=1, size=(64, 64), **PLAIN)
    ((frames, top, left),) = coordinates(monkeypatch, single, 200, 64, 100)
    assert (frames[0], frames[-1], top, left) == (68, 131, 0, 18)


def test_short_side_is_resized_without_antialiasing() -> None:
    frames = torch.rand(1, 2, 3, 100, 151)
    plain, filtered = (
        resize_views(
            frames, plan=MultiViewConfig(clip=ClipSampler(num_frames=2), size=(40, 40), antialias=antialias)
        ).frames
        for antialias in (False, True)
    )
    assert plain.shape == filtered.shape == (2, 3, 40, 60)
    # OpenCV's INTER_LINEAR: two neighbors in each direction around (i + 0.5) * scale - 0.5, whatever the scale.
    row, column = (np.array([7 + 0.5, 11 + 0.5]) * np.array([100 / 40, 151 / 60])) - 0.5
    top, left = int(row), int(column)
    a, b = row - top, column - left
    box = frames[0, :, :, top : top + 2, left : left + 2].double()
    weights = torch.tensor([[(1 - a) * (1 - b), (1 - a) * b], [a * (1 - b), a * b]])
    torch.testing.assert_close(plain[:, :, 7, 11].double(), (box * weights).sum((-1, -2)), atol=1e-5, rtol=0)
    assert (plain - filtered).abs().max() > 0.05


def test_rectangles_are_covered_and_gray_views_are_luma() -> None:
    plan = MultiViewConfig(clip=ClipSampler(num_frames=2), size=(40, 90), crops=2, image_mean=(0.5,), image_std=(0.5,))
    views = build_views(resize_views(torch.full((1, 2, 3, 100, 151), 0.75), plan=plan), plan=plan)
    assert views.shape == (2, 2, 1, 40, 90)
    torch.testing.assert_close(views, torch.full_like(views, 0.5))


def test_views_of_bytes_are_normalized() -> None:
    frames = np.full((20, 3, 64, 64), 128, dtype=np.uint8)
    plan = MultiViewConfig(clip=ClipSampler(num_frames=8, stride=2, views=2), size=(32, 32))
    read = decode_views(encode_clip(frames), plan=plan)
    assert isinstance(read, DecodedViews) and read.frames.dtype == torch.uint8 and read.indices.shape == (2, 8)
    views = build_views(read, plan=plan)
    assert views.shape == (6, 8, 3, 32, 32) and views.dtype == torch.float32
    expected = (128 / 255 - torch.tensor(plan.image_mean)) / torch.tensor(plan.image_std)
    torch.testing.assert_close(views.mean((0, 1, 3, 4)), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(("text", "pair"), [("5x3", (5, 3)), (" 10 X 3 ", (10, 3)), ("1×1", (1, 1)), ((2, 3), (2, 3))])
def test_views_are_parsed(text: object, pair: tuple[int, int]) -> None:
    assert parse_views(text) == pair


@pytest.mark.parametrize("text", ["5", "5x", "0x3", "5x3x1", "-5x3", "a lot", (5,), (5, 0)])
def test_invalid_views_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="5x3"):
        parse_views(text)
    with pytest.raises(ValueError, match="crops"):
        MultiViewConfig(clip=ClipSampler(), crops=0)


@pytest.mark.parametrize(
    ("total", "hop", "starts"),
    [(64, None, [0, 3]), (61, None, [0]), (61 + 130, None, [0, 64, 128, 130]), (20, 7, [0]), (70, 4, [0, 4, 8, 9])],
)
def test_last_sliding_window_ends_with_the_video(total: int, hop: int | None, starts: list[int]) -> None:
    windows = sliding_window_indices(total, hop=hop)
    assert [window[0] for window in windows] == starts
    for window in windows:
        assert window == [min(window[0] + 4 * place, total - 1) for place in range(16)]
    assert windows[-1][-1] == total - 1

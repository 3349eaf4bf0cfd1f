"""Test the index tables of the published code, literally, and the sampler that holds them."""

import json

import numpy as np
import pytest
import torch

from hf_videomae.video.decode_errors import UnknownFrameRateError
from hf_videomae.video.sampling import (
    ClipSampler,
    center_clip_indices,
    dense_test_indices,
    dense_train_indices,
    pretrain_indices,
    uniform_test_indices,
    uniform_train_indices,
)

# numpy.linspace over a window of 64, both ends included, rounded down: not every fourth frame.
DENSE_OFFSETS = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# pre-training


def test_pretrain_window_is_exactly_strided() -> None:
    assert pretrain_indices(300, start=7) == [7 + 4 * step for step in range(16)]
    assert pretrain_indices(300, start=7, stride=2) == [7 + 2 * step for step in range(16)]


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (64, list(range(0, 64, 4))),
        (62, list(range(0, 61, 4))),
        (61, list(range(0, 57, 4)) + [56]),
        (40, list(range(0, 37, 4)) + [36] * 6),
        (10, [0, 4, 8] + [8] * 13),
        (9, [0, 4] + [4] * 14),
        (6, [0] + [4] * 15),
        (5, [0] * 16),
        (4, [0] * 16),
        (1, [0] * 16),
    ],
)
def test_pretrain_short_videos_repeat_the_last_reachable_frame(total: int, expected: list[int]) -> None:
    assert pretrain_indices(total, generator=generator()) == expected


def test_pretrain_start_is_uniform_over_every_window_that_fits() -> None:
    randomness = generator()
    starts = [pretrain_indices(68, generator=randomness)[0] for _ in range(1000)]
    assert set(starts) == {0, 1, 2, 3, 4}
    assert min(np.bincount(starts)) > 150
    assert max(pretrain_indices(68, start=4)) == 64


def test_pretrain_matches_the_published_loop() -> None:
    """The published loop: 1-based position, step only while `position + step < duration`."""
    for total in range(1, 90):
        for start in range(max(total - 64 + 1, 1)):
            position, expected = start + 1, []
            for _ in range(16):
                expected.append(position - 1)
                if position + 4 < total:
                    position += 4
            assert pretrain_indices(total, start=start) == expected


# dense fine-tuning and test


def test_dense_train_offsets() -> None:
    indices = dense_train_indices(300, generator=generator())
    assert [index - indices[0] for index in indices] == DENSE_OFFSETS


def test_dense_train_last_window_ends_before_the_last_frame() -> None:
    randomness = generator()
    starts = {dense_train_indices(67, generator=randomness)[0] for _ in range(200)}
    assert starts == {0, 1, 2}  # the published end is drawn from [64, 67)


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (65, DENSE_OFFSETS),
        (64, DENSE_OFFSETS),
        (40, [0, 4, 8, 13, 17, 22, 26, 31, 35, 39] + [39] * 6),
        (9, [0, 8] + [8] * 14),
        (7, [0] + [6] * 15),
        (3, [2] * 16),
        (1, [0] * 16),
    ],
)
def test_dense_train_short_videos(total: int, expected: list[int]) -> None:
    assert dense_train_indices(total, generator=generator()) == expected
    if total <= 64:
        assert center_clip_indices(total) == expected


@pytest.mark.parametrize(("num_frames", "stride"), [(16, 4), (16, 2), (8, 3), (32, 2), (4, 1)])
def test_dense_matches_numpy_linspace(num_frames: int, stride: int) -> None:
    window = num_frames * stride
    for total in range(1, 3 * window):
        if total <= window:
            spread = total // stride
            ramp = np.concatenate([np.linspace(0, total, spread), np.ones(num_frames - spread) * total])
            expected = np.clip(ramp, 0, total - 1).astype(np.int64)
        else:
            end = (window + total) // 2
            expected = np.clip(np.linspace(end - window, end, num_frames), end - window, end - 1).astype(np.int64)
        assert center_clip_indices(total, num_frames=num_frames, stride=stride) == expected.tolist()


def test_center_clip_is_in_the_middle() -> None:
    assert center_clip_indices(300) == [118 + offset for offset in DENSE_OFFSETS]


def test_dense_test_views() -> None:
    views = dense_test_indices(300, views=5)  # a list of 75, 59 to spare, 14.75 apart
    assert [view[0] // 4 for view in views] == [0, 14, 29, 44, 59]
    assert all(view == list(range(view[0], view[0] + 64, 4)) for view in views)
    assert views[-1][-1] == 296


def test_dense_test_short_and_single_view() -> None:
    short = [0, 4, 8] + [8] * 13
    assert dense_test_indices(10, views=5) == [short] * 5
    assert dense_test_indices(1, views=2) == [[0] * 16] * 2
    assert dense_test_indices(300, views=1) == [list(range(116, 180, 4))]


# uniform (TSN)


def test_uniform_train_takes_one_frame_of_each_segment() -> None:
    randomness = generator()
    clips = [uniform_train_indices(50, generator=randomness) for _ in range(300)]  # segments of 3; 48, 49 left over
    for place in range(16):
        assert {clip[place] for clip in clips} == {3 * place, 3 * place + 1, 3 * place + 2}


def test_uniform_train_draws_each_segment_independently() -> None:
    indices = uniform_train_indices(1600, generator=generator())
    assert len({index % 100 for index in indices}) > 5


def test_uniform_train_short_videos() -> None:
    assert uniform_train_indices(16, generator=generator()) == list(range(16))
    assert uniform_train_indices(5) == [0] * 16
    assert uniform_train_indices(5, front_pad=True) == [0] * 11 + [0, 1, 2, 3, 4]


def test_uniform_test_table() -> None:
    first, second = uniform_test_indices(40)
    assert first == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37]
    assert second == [1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 26, 28, 31, 33, 36, 38]
    assert uniform_test_indices(1) == [[0] * 16] * 2


@pytest.mark.parametrize("num_frames", [8, 10, 16])
def test_uniform_test_matches_the_published_sort(num_frames: int) -> None:
    """Take `int(tick * x)` and `int(tick / 2 + tick * x)` together, sorted; view c is every second from c."""
    for total in range(1, 200):
        tick = total / float(num_frames)
        union = sorted(int(shift + tick * place) for shift in (0, tick / 2) for place in range(num_frames))
        assert uniform_test_indices(total, num_frames=num_frames) == [union[0::2], union[1::2]]


# all of them


def test_every_index_exists_and_every_clip_is_complete() -> None:
    randomness = generator()
    for total in [*range(1, 140), 1000]:
        clips = [
            pretrain_indices(total, generator=randomness),
            dense_train_indices(total, generator=randomness),
            center_clip_indices(total),
            uniform_train_indices(total, generator=randomness),
            *dense_test_indices(total),
            *uniform_test_indices(total),
        ]
        assert all(len(clip) == 16 and 0 <= min(clip) and max(clip) < total for clip in clips)


def test_same_seed_draws_the_same_clip_without_global_state() -> None:
    before = torch.get_rng_state()
    for draw in (pretrain_indices, dense_train_indices, uniform_train_indices):
        assert draw(500, generator=generator(3)) == draw(500, generator=generator(3))
        assert draw(500, generator=generator(3)) != draw(500, generator=generator(4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [0, -3, 2.0, True])
def test_invalid_numbers_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="number of frames of the video"):
        dense_train_indices(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stride"):
        pretrain_indices(100, stride=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start must be"):
        pretrain_indices(100, start=100)


# the plan


@pytest.mark.parametrize("frame_seconds", [None, 0.13])
def test_sampler_survives_json(frame_seconds: float | None) -> None:
    plan = ClipSampler(num_frames=8, stride=2, mode="uniform", views=2, frame_seconds=frame_seconds)
    assert ClipSampler.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_sampler_in_seconds_uses_the_frame_rate() -> None:
    plan = ClipSampler(views=5, frame_seconds=4 / 30)
    assert [plan.stride_at_fps(fps) for fps in (30.0, 29.97, 15.0, 60.0, 25.0, 1.0)] == [4, 4, 2, 8, 3, 1]
    assert plan.test_indices(300, 60.0) == dense_test_indices(300, stride=8, views=5)
    assert plan.train_indices(300, 15.0, generator=generator()) == dense_train_indices(
        300, stride=2, generator=generator()
    )
    with pytest.raises(UnknownFrameRateError, match="frame_seconds=0.133333 needs it"):
        plan.test_indices(300)
    assert ClipSampler(mode="uniform", frame_seconds=1.0).test_indices(300) == uniform_test_indices(300, views=1)


def test_stride_in_frames_replaces_one_in_seconds() -> None:
    plan = ClipSampler(stride=3, frame_seconds=0.5)
    assert plan.with_overrides() == plan
    assert plan.with_overrides(mode="uniform") == ClipSampler(stride=3, frame_seconds=0.5, mode="uniform")
    assert plan.with_overrides(stride=2) == ClipSampler(stride=2)
    assert plan.with_overrides(frame_seconds=0.1) == ClipSampler(stride=3, frame_seconds=0.1)
    with pytest.raises(ValueError, match="stride=2 and frame_seconds=0.1 say the same thing"):
        plan.with_overrides(stride=2, frame_seconds=0.1)
    with pytest.raises(ValueError, match="frame_seconds=0.1 and uniform sampling"):
        plan.with_overrides(mode="uniform", frame_seconds=0.1)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_frames": 0}, "num_frames"),
        ({"stride": 1.5}, "stride"),
        ({"views": -1}, "views"),
        ({"mode": "x"}, "mode"),
        ({"frame_seconds": 0.0}, "frame_seconds is 0.0"),
        ({"frame_seconds": float("inf")}, "frame_seconds is inf"),
        ({"frame_seconds": "0.1"}, "frame_seconds is '0.1'"),
    ],
)
def test_sampler_refuses_invalid_values(fields: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ClipSampler(**fields)


def test_sampler_refuses_unknown_keys() -> None:
    with pytest.raises(ValueError, match="no frames; its fields are num_frames"):
        ClipSampler.from_dict({"frames": 16})


def test_sampler_mode_chooses_the_index_table() -> None:
    assert ClipSampler(views=5).test_indices(300) == dense_test_indices(300, views=5)
    assert ClipSampler().test_indices(300) == [center_clip_indices(300)]
    assert ClipSampler(mode="uniform", views=2).test_indices(300) == uniform_test_indices(300)
    for mode, draw in (("dense", dense_train_indices), ("uniform", uniform_train_indices)):
        plan = ClipSampler(mode=mode)  # type: ignore[arg-type]
        assert plan.train_indices(300, generator=generator()) == draw(300, generator=generator())

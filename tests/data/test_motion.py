"""Test the motion dataset: a single frame says nothing about the label, the motion says all."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_videomae.data import DataError, MotionSource, open_source
from hf_videomae.data.motion import CLASS_NAMES, IMAGE_SIZE, NUM_FRAMES, encode_clip
from hf_videomae.video.decoding import decode_clip, open_video

CHANCE = 1 / len(CLASS_NAMES)
TRAIN, TEST = 800, 400


@pytest.fixture(scope="module")
def single_frames() -> tuple[dict[int, Tensor], Tensor]:
    """Return standardized 16x16 thumbnails of the first, middle and last frame, and the labels."""
    source = MotionSource(num_videos=TRAIN + TEST)
    times = (0, NUM_FRAMES // 2, NUM_FRAMES - 1)
    frames = torch.from_numpy(np.stack([source.frames(index)[list(times)] for index in range(len(source))])).float()
    thumbnails = F.avg_pool2d(frames.flatten(0, 1), 4).unflatten(0, (-1, len(times))).flatten(2)
    thumbnails = (thumbnails - thumbnails.mean(0)) / thumbnails.std(0)
    labels = torch.tensor([index % len(CLASS_NAMES) for index in range(len(source))])
    return {time: thumbnails[:, place] for place, time in enumerate(times)}, labels


def kernel_ridge(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(torch.cdist(a, b) ** 2) / a.shape[1])

    targets = F.one_hot(labels, len(CLASS_NAMES)).float()
    weights = torch.linalg.solve(kernel(train, train) + 0.1 * torch.eye(len(train)), targets)
    return (kernel(test, train) @ weights).argmax(1)


def nearest(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    return labels[torch.cdist(test, train).argmin(1)]


@pytest.mark.parametrize("classify", [nearest, kernel_ridge])
@pytest.mark.parametrize("time", [0, NUM_FRAMES // 2, NUM_FRAMES - 1])
def test_single_frame_does_not_reveal_label(single_frames, time, classify) -> None:
    features, labels = single_frames
    x = features[time]
    accuracy = (classify(x[:TRAIN], labels[:TRAIN], x[TRAIN:]) == labels[TRAIN:]).float().mean().item()
    assert accuracy <= CHANCE + 0.08


def estimate_motion(frames: np.ndarray) -> int:
    """Return the class from optical flow: the best fit of translation, rotation and scaling."""
    gray = torch.from_numpy(frames).float().mean(1)
    y, x = torch.meshgrid(torch.arange(IMAGE_SIZE - 2.0), torch.arange(IMAGE_SIZE - 2.0), indexing="ij")
    found = []
    for before, after in zip(gray[:-1], gray[1:], strict=True):
        change, mean = (after - before)[1:-1, 1:-1], (after + before) / 2
        moved = change.abs() > 2
        if moved.sum() < 20:
            continue
        dx, dy = (mean[1:-1, 2:] - mean[1:-1, :-2]) / 2, (mean[2:, 1:-1] - mean[:-2, 1:-1]) / 2
        u, v = (x - x[moved].mean()) / 20, (y - y[moved].mean()) / 20
        columns = torch.stack([-dx, -dy, v * dx - u * dy, -(u * dx + v * dy)], -1)[moved]
        found.append(torch.linalg.lstsq(columns, change[moved][:, None]).solution[:, 0])
    motion = torch.stack(found).median(0).values
    typical = torch.tensor([1.25, 1.25, 2.2, 0.22])  # pixels a frame; 20 pixels from the center for the last two
    axis = int((motion / typical).abs().argmax())
    names = [("move_left", "move_right"), ("move_up", "move_down")]
    names += [("rotate_counterclockwise", "rotate_clockwise"), ("shrink", "grow")]
    return CLASS_NAMES.index(names[axis][int(motion[axis] > 0)])


def test_label_is_the_motion() -> None:
    source = MotionSource(num_videos=96)
    estimates = torch.tensor([estimate_motion(source.frames(index)) for index in range(96)])
    right = estimates == torch.arange(96) % 8
    translations = torch.arange(96) % 8 < 4
    assert right[translations].float().mean() > 0.95
    # Rough flow mistakes a turn at the edge for a translation; chance is 0.125.
    assert right[~translations].float().mean() > 0.35


def test_clips_are_independent_and_reproducible() -> None:
    forward, backward = MotionSource(num_videos=4), MotionSource()
    ahead = [forward[index] for index in range(4)]
    assert [backward[index] for index in (3, 2, 1, 0)] == ahead[::-1]
    assert [sample.id for sample in ahead] == ["train/0", "train/1", "train/2", "train/3"]
    assert [sample.label for sample in ahead] == [0, 1, 2, 3]
    assert len({sample.video for sample in ahead}) == 4


def test_frames_are_same_on_every_machine() -> None:
    frames = MotionSource().frames(5)
    assert frames.shape == (NUM_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert hashlib.sha256(frames.tobytes()).hexdigest()[:16] == "ad16b6c2b4b62b75"


def test_splits_and_seeds_give_different_clips() -> None:
    sources = [MotionSource(), MotionSource(split="validation"), MotionSource(seed=1)]
    clips = {source.frames(0).tobytes() for source in sources}
    assert len(clips) == 3
    assert sources[1][7].id == "validation/7"


def test_encoding_keeps_frames() -> None:
    source = MotionSource()
    with open_video(source[9].video) as video:
        assert (video.num_frames, video.fps, video.height, video.width) == (NUM_FRAMES, 12.0, IMAGE_SIZE, IMAGE_SIZE)
        decoded = video.frames(range(NUM_FRAMES)).numpy().astype(float)
    assert np.abs(decoded - source.frames(9)).mean() < 4


def test_few_patches_are_flat() -> None:
    """Cubes have something to predict in every channel, above the codec's noise (standard deviation about 1)."""
    source = MotionSource()
    found = []
    for index in range(32):
        frames = decode_clip(source[index].video, lambda total, fps: range(8)).float()
        cubes = frames.unfold(2, 16, 16).unfold(3, 16, 16)  # (T, C, H', W', 16, 16)
        found.append(cubes.std(dim=(0, 4, 5)).flatten())
    assert (torch.cat(found) > 2).float().mean() > 0.95


def test_cache_is_bounded_in_bytes() -> None:
    source = MotionSource(cache_bytes=50_000)
    for index in range(12):
        source[index]
    held = list(source._cache.values())
    assert sum(map(len, held)) == source._cache_size <= 50_000
    assert 1 < len(held) < 12


def test_pickled_source_has_no_cache() -> None:
    source = MotionSource()
    sample = source[0]
    assert len(pickle.dumps(source)) < 2000
    assert pickle.loads(pickle.dumps(source))[0] == sample


def test_encodes_with_pyav_if_torchcodec_fails(monkeypatch) -> None:
    pytest.importorskip("av")

    def broken(frames: np.ndarray, rate: float) -> bytes:
        raise RuntimeError("no FFmpeg")

    monkeypatch.setattr("hf_videomae.data.motion._encode_with_torchcodec", broken)
    assert decode_clip(encode_clip(MotionSource().frames(0)), lambda total, fps: range(total)).shape[0] == NUM_FRAMES


def test_unknown_split_raises() -> None:
    with pytest.raises(DataError, match="no split 'tset'; choose one of train, validation, test"):
        open_source("motion", split="tset")
    with pytest.raises(IndexError):
        MotionSource(num_videos=3)[3]

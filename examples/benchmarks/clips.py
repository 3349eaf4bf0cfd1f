"""Measure clips per second and core, from encoded video to normalized tensor, of this package and the usual ways.

    python examples/benchmarks/clips.py                              # 12 videos that are made on the spot
    python examples/benchmarks/clips.py --raw path/to/videos [--prepared path/to/set]

The clips are those of pre-training with the multi-scale crop: 16 frames, 4 apart, at 224 pixels, unless --num_frames,
--stride or --image_size are given. Every way decodes and makes the same kind of clip, on one thread, measured in
process CPU time. Each round takes all ways in turn, so that other load on the machine affects all of them. A ratio is
the median over the rounds, ours over the other. --prepared is the output of `hf-videomae prepare` (Parquet).

With 4 clips per video our way opens a video once for four clips: each with its own start (`--clips_per_video 4`), or
all of the same frames with other crops (`--num_sample 4`, the paper's repeated augmentation). The others, like their
loaders, decode for every clip; only the original's way takes more clips from the same frames, in a row of its own.
Those ratios are the gain of taking more clips from a video, not of a faster decoder alone.
"""

import argparse
import importlib.util
import io
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_videomae.data.clips import IMAGENET_MEAN, IMAGENET_STD, ClipConfig, make_clips, sample_generator
from hf_videomae.data.motion import render_clip
from hf_videomae.data.source import Sample
from hf_videomae.video import sampling, transforms

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg"}
ClipMaker = Callable[[Sample, int], list[torch.Tensor]]
Frames = np.ndarray  # (T, H, W, 3) uint8


@dataclass(frozen=True)
class ClipShape:
    """The shape of a clip: frames, stride, and size in pixels."""

    num_frames: int
    stride: int
    size: int

    def plan(self, total: int, sample: Sample, seed: int) -> list[int]:
        """Return the frame indices that `make_clips` draws, so that all ways read the same frames."""
        generator = sample_generator(sample.id, seed=seed, epoch=0, purpose="frames")
        return sampling.pretrain_indices(total, num_frames=self.num_frames, stride=self.stride, generator=generator)


# ours


def ours(shape: ClipShape, *, clips: int = 1, num_sample: int = 1) -> ClipMaker:
    settings = ClipConfig(
        num_frames=shape.num_frames,
        stride=shape.stride,
        image_size=shape.size,
        clips_per_video=clips,
        num_sample=num_sample,
    )

    def make(sample: Sample, seed: int) -> list[torch.Tensor]:
        return [clip["pixel_values"] for clip in make_clips(sample, clip_config=settings, seed=seed, epoch=0)]

    return make


def our_transform(frames: Frames, shape: ClipShape, seed: int) -> torch.Tensor:
    """Apply the transform of `make_clips` to frames that another way decoded."""
    generator = torch.Generator().manual_seed(seed)
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
    clip = transforms.multi_scale_crop(clip, (shape.size, shape.size), generator=generator)
    return transforms.normalize(clip, IMAGENET_MEAN, IMAGENET_STD)


# the usual ways to the frames


def decode_with_decord(sample: Sample, shape: ClipShape, seed: int) -> Frames:
    import decord

    try:
        video = decord.VideoReader(_file(sample), num_threads=1)
        frames: Frames = video.get_batch(shape.plan(len(video), sample, seed)).asnumpy()
    except decord.DECORDError as error:
        raise RuntimeError(str(error)) from error
    return frames


def decode_with_pyav(sample: Sample, shape: ClipShape, seed: int) -> Frames:
    """Decode every frame up to the last one needed, by the container's count, and convert the needed ones to RGB."""
    import av

    with av.open(_file(sample)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        indices = shape.plan(stream.frames or _count(sample), sample, seed)
        frames: dict[int, Frames] = {}
        for index, frame in enumerate(container.decode(stream)):
            if index in indices:
                frames[index] = frame.to_ndarray(format="rgb24")
            if index == indices[-1]:
                break
    last = frames[max(frames)]  # the container may count frames that do not exist
    return np.stack([frames.get(index, last) for index in indices])


def _count(sample: Sample) -> int:
    import av

    with av.open(_file(sample)) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def decode_with_datasets(sample: Sample, shape: ClipShape, seed: int) -> Frames:
    """Decode with the `Video` feature of `datasets`: a torchcodec decoder with its defaults."""
    import datasets

    value = sample.video
    encoded = {"path": None, "bytes": value} if isinstance(value, bytes) else {"path": value, "bytes": None}
    video = datasets.Video().decode_example(encoded)
    return video.get_frames_at(shape.plan(len(video), sample, seed)).data.permute(0, 2, 3, 1).numpy()


def _file(sample: Sample) -> Any:
    return io.BytesIO(sample.video) if isinstance(sample.video, bytes) else sample.video


# the usual transforms


def pil_transform(frames: Frames, shape: ClipShape, seed: int) -> torch.Tensor:
    """Transform PIL images like the original: one crop for all, resized, stacked along the channels, normalized."""
    from PIL import Image

    images = [Image.fromarray(frame).convert("RGB") for frame in frames]
    box = _random_box(images[0].size, shape.size, random.Random(seed))
    images = [image.crop(box).resize((shape.size, shape.size), Image.Resampling.BILINEAR) for image in images]
    stacked = torch.from_numpy(np.concatenate([np.asarray(image) for image in images], axis=2))
    clip = stacked.permute(2, 0, 1).contiguous().float().div(255)
    mean, std = (torch.tensor(values * len(images)).view(-1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    clip.sub_(mean).div_(std)
    return clip.view(len(images), 3, shape.size, shape.size)


def _random_box(size: tuple[int, int], target: int, rng: random.Random) -> tuple[int, int, int, int]:
    """Return (left, upper, right, lower) of a multi-scale crop."""
    width, height = size
    shapes = transforms.multi_scale_shapes((height, width), (target, target))
    crop_height, crop_width = rng.choice(shapes)
    top, left = rng.choice(transforms.fixed_offsets(height - crop_height, width - crop_width))
    return left, top, left + crop_width, top + crop_height


class StockTransform:
    """Transforms with stock transformers' image processor on PIL: resize the short side, center crop, normalize."""

    def __init__(self) -> None:
        self._processors: dict[int, Any] = {}

    def __call__(self, frames: Frames, shape: ClipShape, seed: int) -> torch.Tensor:
        if shape.size not in self._processors:
            self._processors[shape.size] = self._load(shape.size)
        inputs = self._processors[shape.size](list(frames), return_tensors="pt")
        return inputs["pixel_values"][0]

    def _load(self, size: int) -> Any:
        from transformers.models.videomae import image_processing_pil_videomae as stock

        crop = {"height": size, "width": size}
        return stock.VideoMAEImageProcessorPil(size={"shortest_edge": size}, crop_size=crop)


@dataclass
class Row:
    """One way to make clips, and its CPU seconds per clip of each round."""

    name: str
    way: ClipMaker
    clips: int = 1
    seconds: list[float] = field(default_factory=list)
    failed: int = 0


def build_rows(shape: ClipShape) -> tuple[list[Row], list[str]]:
    """Return the ways that are installed, and a line for each that is not."""
    others: list[tuple[str, str, Callable[..., Frames], Callable[..., torch.Tensor]]] = [
        ("the original's: decord, PIL transforms", "decord", decode_with_decord, pil_transform),
        ("datasets.Video, stock's PIL processor", "datasets", decode_with_datasets, StockTransform()),
        ("decord, our transform", "decord", decode_with_decord, our_transform),
        ("PyAV, our transform", "av", decode_with_pyav, our_transform),
    ]
    rows = [
        Row("ours", ours(shape)),
        Row("ours, 4 clips per video", ours(shape, clips=4), clips=4),
        Row("ours, 4 clips of the same frames", ours(shape, num_sample=4), clips=4),
    ]
    missing = []
    for name, package, decode, transform in others:
        if importlib.util.find_spec(package) is None:
            missing.append(f"left out: {name} (pip install {package})")
        else:
            rows.append(Row(name, _compose(decode, transform, shape)))
            if transform is pil_transform:
                rows.append(
                    Row(f"{name}, 4 clips of the same frames", _compose(decode, transform, shape, clips=4), clips=4)
                )
    return rows, missing


def _compose(
    decode: Callable[..., Frames], transform: Callable[..., torch.Tensor], shape: ClipShape, *, clips: int = 1
) -> ClipMaker:
    def make(sample: Sample, seed: int) -> list[torch.Tensor]:
        frames = decode(sample, shape, seed)
        return [transform(frames, shape, seed + 100_000 * number) for number in range(clips)]

    return make


# measuring


def run_rounds(rows: list[Row], samples: list[Sample], *, rounds: int, shape: ClipShape) -> None:
    for number in range(-1, rounds):  # the first round does not count: it pays for imports and caches
        for row in rows:
            spent = 0.0
            failed = 0
            for index, sample in enumerate(samples):
                start = time.process_time()
                try:
                    clips = row.way(sample, 1000 * number + index)
                except (RuntimeError, ValueError, OSError, LookupError) as error:  # must not stop the other ways
                    failed += 1
                    if number < 0:
                        print(f"note: {row.name}: {sample.id}: {str(error).splitlines()[0][:100]}")
                else:
                    spent += time.process_time() - start
                    clip_shape = (shape.num_frames, 3, shape.size, shape.size)
                    assert [clip.shape for clip in clips] == [clip_shape] * row.clips
            if number >= 0 and failed < len(samples):
                row.seconds.append(spent / (row.clips * (len(samples) - failed)))
            row.failed = failed


def print_table(title: str, rows: list[Row]) -> None:
    columns = ["way", "clips per second and core", "speedup of ours", "with 4 clips per video", "of the same frames"]
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|---|---|---|---|---|")
    mine, others = rows[:3], rows[3:]
    for row in rows:
        rate = f"{1 / statistics.median(row.seconds):.1f}" if row.seconds else "none decoded"
        note = f" ({row.failed} videos not decoded)" if row.failed else ""
        # A way that takes four clips from the same frames is compared with ours that does.
        comparable = mine if row.clips == 1 else mine[2:]
        ratios = [_ratio(row, our) if row in others and row.seconds and our in comparable else "" for our in mine]
        print(f"| {row.name}{note} | {rate} | {' | '.join(ratios)} |")
    decoded = [row for row in others if row.seconds and row.clips == 1]
    if decoded:
        best = min(decoded, key=lambda row: statistics.median(row.seconds))
        print(f"\nours against the best of the others ({best.name}): {', '.join(_ratio(best, our) for our in mine)}")


def _ratio(other: Row, mine: Row) -> str:
    values = [theirs / our for theirs, our in zip(other.seconds, mine.seconds, strict=True)]
    return f"{statistics.median(values):.2f}"


def make_videos(folder: Path, count: int) -> Path:
    """Write moving shapes of 100 frames, compressed as usual: H.264, one key frame."""
    from torchcodec.encoders import VideoEncoder

    folder.mkdir()
    for number in range(count):
        frames = render_clip(number % 8, rng=random.Random(number), num_frames=100, image_size=360)
        encoder = VideoEncoder(torch.from_numpy(frames), frame_rate=25)
        encoder.to_file(str(folder / f"{number}.mp4"), codec="libx264", pixel_format="yuv420p", crf=23)
    return folder


def raw_samples(folder: Path, limit: int) -> list[Sample]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [Sample(id=path.name, video=str(path)) for path in _spread(paths, limit)]


def prepared_samples(folder: Path, limit: int) -> list[Sample]:
    return _spread(list(_prepared(folder)), limit)


def _prepared(folder: Path) -> Iterator[Sample]:
    import pyarrow.parquet as parquet

    for path in sorted(folder.rglob("*.parquet")):
        for number, row in enumerate(parquet.read_table(path, columns=["video"])["video"].to_pylist()):
            yield Sample(id=f"{path.name}#{number}", video=row["bytes"])


def _spread(items: list[Any], limit: int) -> list[Any]:
    """Return at most `limit` of the items, evenly spaced."""
    step = max(1, -(-len(items) // limit))
    return items[::step]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="folder of videos; by default some are made, 360 x 360 pixels")
    parser.add_argument("--prepared", type=Path, help="output of `hf-videomae prepare` for them (Parquet)")
    parser.add_argument("--num_frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--videos", type=int, default=12, help="videos to read of each set")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", "2048")
    shape = ClipShape(args.num_frames, args.stride, args.image_size)
    print(
        f"torch {torch.__version__}, 1 thread, {args.rounds} rounds; clips of {shape.num_frames} frames, "
        f"{shape.stride} apart, {shape.size} x {shape.size} pixels"
    )
    with tempfile.TemporaryDirectory() as folder:
        if args.raw is None:
            args.raw = make_videos(Path(folder) / "made", args.videos)
        measure_sets(args, shape, parser)


def measure_sets(args: argparse.Namespace, shape: ClipShape, parser: argparse.ArgumentParser) -> None:
    """Measure all ways on the raw videos, and on the prepared ones if they are given."""
    sets = {f"raw: {args.raw.name}": raw_samples(args.raw, args.videos)}
    if args.prepared is not None:
        sets[f"prepared: {args.prepared.name}"] = prepared_samples(args.prepared, args.videos)
    rates = []
    for title, samples in sets.items():
        if not samples:
            parser.error(f"{title}: there are no videos")
        rows, missing = build_rows(shape)
        run_rounds(rows, samples, rounds=args.rounds, shape=shape)
        print_table(f"{title}, {len(samples)} videos", rows)
        for line in missing:
            print(line)
        rates.append([statistics.median(row.seconds) for row in rows[:3]])
    if len(rates) == 2:
        gains = [f"{raw / prepared:.2f}" for raw, prepared in zip(*rates, strict=True)]
        print(
            f"\nprepared against raw, ours: {gains[0]}, 4 clips per video {gains[1]}, 4 of the same frames {gains[2]}"
        )


if __name__ == "__main__":
    main()

"""Measure whether the memory of streaming grows over time.

    python examples/benchmarks/stream_memory.py                # half an hour
    python examples/benchmarks/stream_memory.py --minutes 5

The script makes a dataset, serves it on loopback with the tests' Hub (from a clone: `tests/local_hub`), and streams
it endlessly in a separate process with its workers, through a shuffle buffer small enough to fill. It prints how much
memory these processes hold and how fast it grows; it asserts nothing. RSS counts shared pages in every process, PSS
divides them.
"""

import argparse
import contextlib
import csv
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
NUM_DISTINCT_VIDEOS = 32
BLOCKS = 20
STUDENT_T = 2.10  # 97.5 % of Student's distribution with BLOCKS - 2 degrees of freedom


class Sample(NamedTuple):
    """Memory in MiB at a time: RSS and PSS of all processes, PSS of the training process and of its workers."""

    seconds: float
    rss: float
    pss: float
    training: float
    workers: float


def encode_noise(seed: int, *, frames: int = 48, size: tuple[int, int] = (120, 160)) -> bytes:
    """Return a video that hardly compresses, so that the buffer fills."""
    import av

    random = np.random.default_rng(seed)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=12, options={"crf": "28", "preset": "ultrafast"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            picture = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def write_set(folder: Path, *, shards: int, videos: int) -> int:
    """Write Parquet files of so many videos each, and return their size in bytes."""
    import datasets

    videos_distinct = [encode_noise(seed) for seed in range(NUM_DISTINCT_VIDEOS)]
    (folder / "data").mkdir(parents=True)
    datasets.disable_progress_bars()
    features = datasets.Features({"video": datasets.Video()})
    for shard in range(shards):
        rows = [
            {"bytes": videos_distinct[(shard * videos + row) % NUM_DISTINCT_VIDEOS], "path": None}
            for row in range(videos)
        ]
        table = datasets.Dataset.from_dict({"video": rows}, features=features)
        table.to_parquet(folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet", batch_size=8)
    return sum(file.stat().st_size for file in folder.rglob("*.parquet"))


def stream(arguments: argparse.Namespace) -> None:
    """Read clips in the measured process, and print their number once a second until it is ended."""
    from hf_videomae.data import ClipConfig, build_loader, open_source

    loader = build_loader(
        open_source("org/noise"),
        clip_config=ClipConfig(num_frames=16, stride=2, image_size=112, grid=(8, 7, 7)),
        batch_size=8,
        seed=0,
        num_workers=arguments.num_workers,
        shuffle_buffer_bytes=arguments.window_megabytes * 2**20,
    )
    clips, printed_at = 0, 0.0
    for batch in loader:
        clips += len(batch["sample_ids"])
        if time.monotonic() - printed_at > 1:
            printed_at = time.monotonic()
            print(clips, loader.epoch, flush=True)


def memory(process: Any, *, begun: float) -> Sample:
    """Return the memory of a process and all its children now."""
    import psutil

    rss, training, workers = 0, 0, 0
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            info = member.memory_full_info()
            rss += info.rss
            training += info.pss if member == process else 0
            workers += info.pss if member != process else 0
    both = training + workers
    return Sample(time.monotonic() - begun, *(value / 2**20 for value in (rss, both, training, workers)))


def sample_memory(arguments: argparse.Namespace, environment: dict[str, str]) -> tuple[list[Sample], str]:
    """Return samples over the whole time, and the last line that the measured process printed."""
    import psutil

    command = [sys.executable, __file__, "--measured", *sys.argv[1:]]
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, env=environment, stdout=output)
        try:
            process, samples = psutil.Process(child.pid), []
            while os.fstat(output.fileno()).st_size == 0 and child.poll() is None:
                time.sleep(0.2)
            begun = time.monotonic()
            while time.monotonic() - begun < 60 * arguments.minutes and child.poll() is None:
                samples.append(memory(process, begun=begun))
                time.sleep(arguments.every)
        finally:
            ended = child.poll() is not None
            child.terminate()
            child.wait()
        if ended:
            raise SystemExit("streaming ended early: see above")
        output.seek(0)
        return samples, output.read().splitlines()[-1]


def fit_growth(seconds: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the growth per hour and half the width of its 95 % interval.

    The line is fitted to the means of equal periods: neighboring samples are correlated, so fitting all of them would
    make the interval too narrow.
    """
    blocks = [
        (a.mean(), b.mean()) for a, b in zip(*(np.array_split(x, BLOCKS) for x in (seconds, values)), strict=True)
    ]
    x, y = np.array(blocks).T
    x = x / 3600 - x.mean() / 3600
    growth = float((x * y).sum() / (x * x).sum())
    residual = y - y.mean() - growth * x
    return growth, STUDENT_T * float(np.sqrt((residual**2).sum() / (BLOCKS - 2) / (x * x).sum()))


def print_summary(samples: list[Sample], last_line: str, *, arguments: argparse.Namespace) -> None:
    """Print the measurement in a few lines."""
    clips, epoch = last_line.split()
    counted = [sample for sample in samples if sample.seconds >= 60 * arguments.warmup_minutes]
    print(f"{clips} clips, {epoch} whole epochs in {samples[-1].seconds / 60:.1f} minutes")
    if len(counted) < 2 * BLOCKS:
        raise SystemExit(f"{len(counted)} samples after the warm-up are too few for a slope; give more --minutes")
    seconds = np.array([sample.seconds for sample in counted])
    names = {"rss": "RSS", "pss": "PSS", "training": "  training process", "workers": "  workers"}
    print(f"after {arguments.warmup_minutes:g} minutes, in MiB:  mean  largest  growth per hour (95 %)")
    for name, shown in names.items():
        values = np.array([getattr(sample, name) for sample in counted])
        growth, error = fit_growth(seconds, values)
        print(f"{shown:26} {values.mean():6.0f} {values.max():8.0f}  {growth:+.0f} +- {error:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="duration (default: 30)")
    parser.add_argument(
        "--warmup_minutes", type=float, default=None, help="minutes that the slope leaves out (default: a fifth)"
    )
    parser.add_argument("--every", type=float, default=2.0, help="seconds between samples (default: 2)")
    parser.add_argument("--num_workers", type=int, default=2, help="decoding processes (default: 2)")
    parser.add_argument("--window_megabytes", type=int, default=32, help="size of the shuffle buffer (default: 32)")
    parser.add_argument("--shards", type=int, default=8, help="shards of the dataset (default: 8)")
    parser.add_argument("--videos", type=int, default=48, help="videos of a shard (default: 48)")
    parser.add_argument("--csv", type=Path, help="write all samples to this file")
    parser.add_argument("--measured", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.warmup_minutes = arguments.minutes / 5 if arguments.warmup_minutes is None else arguments.warmup_minutes
    if arguments.measured:
        return stream(arguments)
    sys.path.insert(0, str(ROOT))
    from tests.local_hub import LocalHub  # the tests' Hub; it serves a folder

    with tempfile.TemporaryDirectory() as folder:
        hub = LocalHub(Path(folder) / "hub", home=Path(folder) / "hf_home")
        size = write_set(hub.dataset("org/noise"), shards=arguments.shards, videos=arguments.videos)
        print(f"{arguments.shards} shards, {arguments.shards * arguments.videos} videos, {size / 2**20:.0f} MiB")
        hub.start()
        try:
            samples, last_line = sample_memory(arguments, {**hub.environment(), "OMP_NUM_THREADS": "1"})
        finally:
            hub.stop()
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            csv.writer(file).writerows([Sample._fields, *samples])
    print_summary(samples, last_line, arguments=arguments)


if __name__ == "__main__":
    main()

"""The memory of streaming over time: does it grow?

    python examples/benchmarks/stream_memory.py                # half an hour
    python examples/benchmarks/stream_memory.py --minutes 5

Makes a data set, serves it on loopback by the tests' Hub (from a clone: `tests/local_hub`), and streams it without end
in a process of its own, with its workers, through a window small enough to fill. Prints how much memory these
processes hold and how fast it grows; nothing is asserted. RSS counts shared pages in every process, PSS shares them.
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
NUM_DISTINCT_VIDEOS = 32  # different videos
BLOCKS = 20
STUDENT_T = 2.10  # 97.5 % of Student's distribution with BLOCKS - 2 degrees of freedom


class Sample(NamedTuple):
    """In MiB: RSS and PSS of all processes, PSS of the training process and of its workers."""

    seconds: float
    rss: float
    pss: float
    training: float
    workers: float


def encode_noise(seed: int, *, frames: int = 48, size: tuple[int, int] = (120, 160)) -> bytes:
    """A video that hardly compresses, so that the window fills."""
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
    """Parquet files of so many videos each; returns all their bytes."""
    import datasets

    kinds = [encode_noise(seed) for seed in range(NUM_DISTINCT_VIDEOS)]
    (folder / "data").mkdir(parents=True)
    datasets.disable_progress_bars()
    features = datasets.Features({"video": datasets.Video()})
    for shard in range(shards):
        rows = [{"bytes": kinds[(shard * videos + row) % NUM_DISTINCT_VIDEOS], "path": None} for row in range(videos)]
        table = datasets.Dataset.from_dict({"video": rows}, features=features)
        table.to_parquet(folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet", batch_size=8)
    return sum(file.stat().st_size for file in folder.rglob("*.parquet"))


def stream(arguments: argparse.Namespace) -> None:
    """The process that is measured: says how many clips it has read, a line a second, until it is ended."""
    from hf_videomae.data import ClipConfig, build_loader, open_source

    loader = build_loader(
        open_source("org/noise"),
        clip_config=ClipConfig(num_frames=16, stride=2, image_size=112, grid=(8, 7, 7)),
        batch_size=8,
        seed=0,
        num_workers=arguments.num_workers,
        shuffle_buffer_bytes=arguments.window_megabytes * 2**20,
    )
    clips, said = 0, 0.0
    for batch in loader:
        clips += len(batch["sample_ids"])
        if time.monotonic() - said > 1:
            said = time.monotonic()
            print(clips, loader.epoch, flush=True)


def memory(process: Any, *, begun: float) -> Sample:
    """Of a process and all below it, now."""
    import psutil

    rss, training, workers = 0, 0, 0
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = member.memory_full_info()
            rss += found.rss
            training += found.pss if member == process else 0
            workers += found.pss if member != process else 0
    both = training + workers
    return Sample(time.monotonic() - begun, *(value / 2**20 for value in (rss, both, training, workers)))


def sample_memory(arguments: argparse.Namespace, environment: dict[str, str]) -> tuple[list[Sample], str]:
    """Samples over the whole time, and the last line that the measured process wrote."""
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
            raise SystemExit("streaming ended by itself: see above")
        output.seek(0)
        return samples, output.read().splitlines()[-1]


def fit_growth(seconds: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Growth per hour and the half width of its 95 % interval.

    A line through the means of equal stretches of time: neighbouring samples are alike, and many of them would
    pretend to know more than they do.
    """
    blocks = [
        (a.mean(), b.mean()) for a, b in zip(*(np.array_split(x, BLOCKS) for x in (seconds, values)), strict=True)
    ]
    x, y = np.array(blocks).T
    x = x / 3600 - x.mean() / 3600
    growth = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - growth * x
    return growth, STUDENT_T * float(np.sqrt((rest**2).sum() / (BLOCKS - 2) / (x * x).sum()))


def print_summary(samples: list[Sample], said: str, *, arguments: argparse.Namespace) -> None:
    """What was measured, in a few lines."""
    clips, epoch = said.split()
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
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    parser.add_argument("--warmup_minutes", type=float, default=None, help="left out of the slope (default: a fifth)")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between samples (default: 2)")
    parser.add_argument("--num_workers", type=int, default=2, help="decoding processes (default: 2)")
    parser.add_argument("--window_megabytes", type=int, default=32, help="of the shuffle (default: 32)")
    parser.add_argument("--shards", type=int, default=8, help="of the data set (default: 8)")
    parser.add_argument("--videos", type=int, default=48, help="of a shard (default: 48)")
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
            samples, said = sample_memory(arguments, {**hub.environment(), "OMP_NUM_THREADS": "1"})
        finally:
            hub.stop()
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            csv.writer(file).writerows([Sample._fields, *samples])
    print_summary(samples, said, arguments=arguments)


if __name__ == "__main__":
    main()

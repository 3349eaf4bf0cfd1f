"""Write small datasets for the tests."""

import io
import json
import tarfile
import wave
from pathlib import Path

from hf_videomae.data import MotionSource


def write_folder(root: Path, *, count: int = 8, classes: int = 2) -> Path:
    """Write `count` videos in class folders `class_0`, `class_1`, ..."""
    source = MotionSource()
    for index in range(count):
        folder = root / f"class_{index % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:03d}.mp4").write_bytes(source[index].video)
    return root


def write_names(root: Path, *names: str) -> Path:
    """Write files that are never decoded."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"video")
    return root


DAMAGES = ("truncated", "empty", "text", "audio only")


def damage(path: Path, kind: str) -> None:
    """Damage a video file in one of the ways of `DAMAGES`."""
    video = path.read_bytes()
    content = {"truncated": video[: len(video) // 3], "empty": b"", "text": b"see the other folder\n" * 20}
    path.write_bytes(sound_only() if kind == "audio only" else content[kind])


def sound_only() -> bytes:
    """Return a file without video."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    return file.getvalue()


def write_parquet(root: Path, *, rows: tuple[int, ...] = (7, 5, 6), bad: tuple[int, ...] = ()) -> Path:
    """Write a Hub dataset as a folder: one Parquet file per entry of `rows`, with embedded videos and labels."""
    import datasets

    source = MotionSource(split="validation")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "video": datasets.Video(),
            "label": datasets.ClassLabel(names=source.class_names),
        }
    )
    (root / "data").mkdir(parents=True)
    index = 0
    for shard, count in enumerate(rows):
        samples = [source[place] for place in range(index, index + count)]
        videos = [b"broken" * 50 if place in bad else source[place].video for place in range(index, index + count)]
        columns = {
            "text": ["a caption"] * count,
            "video": [{"bytes": video, "path": None} for video in videos],
            "label": [sample.label for sample in samples],
        }
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(root / "data" / f"train-{shard:05d}-of-{len(rows):05d}.parquet")
        index += count
    return root


def write_videofolder(root: Path, *, count: int = 6) -> Path:
    """Write a Hub dataset as a folder of video files, with one `metadata.jsonl`."""
    source = MotionSource(split="validation")
    (root / "train").mkdir(parents=True)
    lines = []
    for index in range(count):
        (root / "train" / f"{index}.mp4").write_bytes(source[index].video)
        lines.append(json.dumps({"file_name": f"{index}.mp4", "text": f"clip {index}"}))
    (root / "train" / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


def write_webdataset(root: Path, *, rows: tuple[int, ...] = (4, 3), bad: tuple[int, ...] = ()) -> Path:
    """Write a Hub dataset as tar files, one per entry of `rows`, with that many videos."""
    source = MotionSource(split="validation")
    root.mkdir(parents=True, exist_ok=True)
    index = 0
    for shard, count in enumerate(rows):
        with tarfile.open(root / f"train-{shard:03d}.tar", "w") as tar:
            for place in range(index, index + count):
                video = b"broken" * 50 if place in bad else source[place].video
                entry = tarfile.TarInfo(f"clip{place}.mp4")
                entry.size = len(video)
                tar.addfile(entry, io.BytesIO(video))
        index += count
    return root

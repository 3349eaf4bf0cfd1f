"""Use damaged inputs as a user would: each trial succeeds or ends with an allowed error."""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

from tests.fuzz.mutations import mutate_bytes, mutate_json, odd_json_text

MAX_MESSAGE = 2000  # characters of an error in one line


def try_container(path: Path, numbers: random.Random, folder: Path) -> str:
    """Open a damaged video in each way, and read frames of it."""
    from hf_videomae.video import _h264_skip
    from hf_videomae.video.decoding import VideoDecodeError, open_video

    content = mutate_bytes(path.read_bytes(), numbers)
    damaged = folder / path.name
    damaged.write_bytes(content)
    # Small files take the short cuts of large ones in two of three trials.
    _h264_skip._MIN_FILE_BYTES = numbers.choice((0, 0, 64 * 2**10))
    _h264_skip._MAX_FILE_BYTES = numbers.choice((0, 64 * 2**20))
    backend = numbers.choice(("auto", "auto", "torchcodec", "pyav"))
    try:
        with open_video(damaged if numbers.random() < 0.5 else content, backend=backend) as reader:
            last = reader.num_frames - 1
            reader.frames([0, last // 2, last, last + 3, 0])
            return f"{reader.num_frames} frames" if reader.num_frames else "no frames"
    except VideoDecodeError as error:
        return _in_one_line(error)


def try_config(path: Path, numbers: random.Random, folder: Path) -> str:
    """Load a model folder of which one file is odd, and use it."""
    import torch

    from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEVideoProcessor, predict
    from hf_videomae.inference.model_loading import load_encoder

    target = Path(shutil.copytree(path, folder / path.name))
    name = numbers.choice(("config.json",) * 3 + ("video_preprocessor_config.json", "model.safetensors"))
    changed = target / name
    if changed.suffix == ".json":
        values = json.loads(changed.read_bytes())
        made = mutate_json(values, numbers)
        changed.write_bytes(json.dumps(made).encode() if numbers.random() < 0.8 else odd_json_text(values, numbers))
    else:
        changed.write_bytes(mutate_bytes(changed.read_bytes(), numbers))
    frames = torch.zeros(4, 3, 40, 40, dtype=torch.uint8)
    uses = {
        "predict": lambda: predict(target, frames),
        "from_pretrained": lambda: VideoMAEForVideoClassification.from_pretrained(target),
        "config": lambda: VideoMAEConfig.from_pretrained(target),
        "processor": lambda: VideoMAEVideoProcessor.from_pretrained(target)(frames, return_tensors="pt"),
        "encoder": lambda: load_encoder(target),
    }
    try:
        uses[numbers.choice(sorted(uses))]()
    except (ValueError, OSError) as error:
        return _in_one_line(error)
    return "read"


def try_index(path: Path, numbers: random.Random, folder: Path) -> str:
    """Open a folder with a damaged index file, and read its samples."""
    from hf_videomae.data import DataError, open_source

    for number in range(4):
        (folder / f"v{number}.mp4").write_bytes(b"0")
    names = ["index.csv", "metadata.csv", "metadata.jsonl", path.name]
    name = path.name if path.name in names[:3] else numbers.choice([n for n in names if n.endswith(path.suffix)])
    (folder / name).write_bytes(mutate_bytes(path.read_bytes(), numbers))
    kind = numbers.choice(("single_label_classification", "multi_label_classification", "regression"))
    named = str(folder if numbers.random() < 0.7 else folder / name)
    try:
        source = open_source(named, require_labels=numbers.random() < 0.5, label_kind=kind)
        return f"{sum(1 for number in range(len(source)) if source[number].id)} samples"  # type: ignore[arg-type]
    except DataError as error:
        return _in_one_line(error)


def try_shard(path: Path, numbers: random.Random, folder: Path) -> str:
    """Open a folder of one damaged shard, and read its samples."""
    import datasets

    from hf_videomae.data import DataError, open_source
    from hf_videomae.data.hub_dataset import HubDataset

    datasets.disable_progress_bars()
    (folder / f"train-{numbers.randrange(9)}{path.suffix}").write_bytes(mutate_bytes(path.read_bytes(), numbers))
    try:
        source = open_source(str(folder), require_labels=numbers.random() < 0.3)
        assert isinstance(source, HubDataset)
        count = sum(1 for shard in range(source.num_shards) for _ in source.read_shard(shard))
        return f"{count} samples"
    except DataError as error:
        return _in_one_line(error)


def try_checkpoint(path: Path, numbers: random.Random, folder: Path) -> str:
    """Read a damaged checkpoint as `hf-videomae convert` does."""
    from hf_videomae.convert.checkpoint_files import read_checkpoint_source

    damaged = folder / path.name
    damaged.write_bytes(mutate_bytes(path.read_bytes(), numbers))
    try:
        return f"{len(read_checkpoint_source(str(damaged)).weights)} weights"
    except (ValueError, OSError) as error:
        return _in_one_line(error)


TARGETS = {
    "containers": try_container,
    "configs": try_config,
    "indexes": try_index,
    "shards": try_shard,
    "checkpoints": try_checkpoint,
}


def run_trial(target: str, path: Path, *, seed: int, number: int) -> str:
    """Run one trial, the same for the same seed and number, and return how it ended.

    Raises:
        Whatever a user would see as a traceback.
    """
    numbers = random.Random(f"{seed}/{target}/{path.name}/{number}")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        return TARGETS[target](path, numbers, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_one_line(error: BaseException) -> str:
    message = str(error)
    assert message.strip(), f"{type(error).__name__} says nothing"
    assert len(message) <= MAX_MESSAGE, f"an error of {len(message)} characters: {message[:200]}"
    return f"refused: {message}".replace(os.linesep, " ")

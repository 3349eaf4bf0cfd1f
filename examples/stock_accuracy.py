"""Measure the accuracy of a video classifier with stock transformers alone, as users without this package get it.

    python examples/stock_accuracy.py --model org/my-finetuned --dataset org/my-videos --split test

There are two ways: `AutoModelForVideoClassification` with `AutoImageProcessor` on frames that `datasets` decodes, and
`pipeline("video-classification")`, which decodes by itself. Each uses one clip per video, its frames spread over the
whole video. The script prints one line of JSON; it imports nothing of hf_videomae, and the line confirms that.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Video, load_dataset
from transformers import AutoImageProcessor, AutoModelForVideoClassification, pipeline
from transformers.utils import logging


class StockModel:
    """Classifies with the Auto classes, on frames decoded by `datasets`."""

    def __init__(self, name: str) -> None:
        self.model = AutoModelForVideoClassification.from_pretrained(name).eval()
        self.processor = AutoImageProcessor.from_pretrained(name)

    def __call__(self, video: bytes) -> str:
        """Return the class of an encoded video."""
        decoder = Video().decode_example({"bytes": video, "path": None})
        indices = np.linspace(0, len(decoder) - 1, self.model.config.num_frames).astype(int).tolist()
        frames = decoder.get_frames_at(indices).data.permute(0, 2, 3, 1).numpy()
        inputs = self.processor(list(frames), return_tensors="pt")
        with torch.no_grad():
            scores = self.model(**inputs).logits[0]
        return str(self.model.config.id2label[int(scores.argmax())])


class StockPipeline:
    """Classifies files with `pipeline`; it steps by `frame_sampling_rate`, or spreads its frames with torchvision."""

    def __init__(self, name: str, *, folder: Path) -> None:
        self.classify = pipeline("video-classification", model=name)
        self.file = folder / "video.mp4"

    def __call__(self, video: bytes) -> str:
        """Return the class of an encoded video."""
        self.file.write_bytes(video)
        length = len(Video().decode_example({"bytes": video, "path": None}))
        rate = max(1, length // self.classify.model.config.num_frames)
        return str(self.classify(str(self.file), frame_sampling_rate=rate, top_k=1)[0]["label"])


def count_correct(arguments: argparse.Namespace) -> dict[str, Any]:
    """Count the videos, and how many of them each way gets right."""
    videos = load_dataset(arguments.dataset, split=arguments.split, streaming=True)
    names = videos.features["label"].names
    with tempfile.TemporaryDirectory() as folder:
        ways = {"model": StockModel(arguments.model), "pipeline": StockPipeline(arguments.model, folder=Path(folder))}
        right, count = dict.fromkeys(ways, 0), 0
        for row in videos.decode(False):
            count += 1
            for way, classify in ways.items():
                right[way] += classify(row["video"]["bytes"]) == names[row["label"]]
    return {"videos": count, "right": right}


def main() -> int:
    """Print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder or org/name")
    parser.add_argument("--dataset", required=True, help="org/name with embedded videos: columns video and label")
    parser.add_argument("--split", default="test", help="of the dataset (default: test)")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    counts = count_correct(arguments)
    ours = sorted(name for name in sys.modules if name.partition(".")[0] == "hf_videomae")
    print(json.dumps({**counts, "imported_of_ours": ours}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

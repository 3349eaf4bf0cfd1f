"""Make a small classifier, and videos in class folders that it classifies correctly."""

from pathlib import Path

import torch

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.data import MotionSource, Sample
from hf_videomae.evaluation import evaluate

NAMES = ["boxing", "clapping", "waving"]


def classifier(*, seed: int = 3, **fields: object) -> VideoMAEForVideoClassification:
    """Make a classifier, the same in every process, whose random weights are large, so that answers differ."""
    torch.manual_seed(seed)
    values = {"num_hidden_layers": 2, "head_init_scale": 1.0, "id2label": dict(enumerate(NAMES)), **fields}
    model = VideoMAEForVideoClassification(VideoMAEConfig.from_preset("tiny", task="classification", **values))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def processor(model: VideoMAEForVideoClassification) -> VideoMAEVideoProcessor:
    return VideoMAEVideoProcessor.from_config(model.config, frame_stride=2)


class Listed:
    """Videos in memory as a `Source`; two of one file name in two folders are two videos."""

    name = "listed"

    def __init__(self, samples: list[Sample], class_names: list[str] | None = None) -> None:
        self.samples, self.class_names = samples, NAMES if class_names is None else class_names

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def samples(count: int, *, labels: list[int] | None = None) -> list[Sample]:
    motion = MotionSource(split="test")
    chosen = labels or [0] * count
    return [Sample(id=f"{n}/clip.mp4", video=motion[n].video, label=chosen[n]) for n in range(count)]


def answers(model: VideoMAEForVideoClassification, count: int, *, views: str = "2x3") -> list[int]:
    """Return the classes that the model predicts for the first test clips."""
    found = evaluate(model, Listed(samples(count)), processor=processor(model), views=views)
    return found.probabilities.argmax(1).tolist()


def write_right_folder(root: Path, model: VideoMAEForVideoClassification, *, count: int) -> Path:
    """Write clips into the folders of the classes that the model predicts for them."""
    for number, answer in enumerate(answers(model, count)):
        folder = root / NAMES[answer]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp4").write_bytes(MotionSource(split="test")[number].video)
    return root

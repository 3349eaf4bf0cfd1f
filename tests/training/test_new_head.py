"""Test that a head of one's own needs no change elsewhere: a model and a task, as examples/README.md lists them."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel, predict
from hf_videomae.cards.run_card import write_card
from hf_videomae.data import ClipConfig, LabelEncoder, MotionSource
from hf_videomae.inference import extract_features
from hf_videomae.modeling_videomae import VideoMAEPreTrainedModel
from hf_videomae.run_files import read_jsonl
from hf_videomae.training import (
    RunRecipe,
    Trainer,
    build_accelerator,
    build_train_loader,
    resolve_resume_checkpoint,
)
from hf_videomae.training.model_source import build_model
from hf_videomae.training.task import Batch, VideoMAETask

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"num_hidden_layers": 2, "decoder_num_hidden_layers": 1}


class VideoMAEForSlices(VideoMAEPreTrainedModel):
    """Classify each slice of a clip in time, with its own weights under `head`."""

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config)
        self.videomae = VideoMAEModel(config)
        self.head = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor) -> ImageClassifierOutput:
        tokens = self.videomae(pixel_values, return_dict=True).last_hidden_state
        slices = self.videomae.clip_grid(pixel_values)[0]
        logits = self.head(tokens.unflatten(1, (slices, -1)).mean(2))  # (B, T', K)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(slices))
        return ImageClassifierOutput(loss=loss, logits=logits)


@dataclass(frozen=True, kw_only=True)
class SlicesRecipe(RunRecipe):
    task: ClassVar[str] = "slices"


class SlicesTask(VideoMAETask):
    name = SlicesRecipe.task
    does = "names the motion in each *slice*"

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        loss: Tensor = model(batch["pixel_values"], labels=batch["labels"]).loss
        return loss


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", **SMALL)).save_pretrained(tmp_path / "pretrained")
    return tmp_path / "pretrained"


def train(model: Path, output_dir: Path, **settings: Any) -> int:
    numbers = {"batch_size": 2, "max_steps": 4, "base_lr": 0.1, "frame_stride": 2, "num_workers": 0, "log_every": 1}
    recipe = SlicesRecipe(model=str(model), output_dir=str(output_dir), **numbers, **settings)
    accelerator = build_accelerator(recipe)
    resume, source = resolve_resume_checkpoint(recipe), MotionSource()
    head = build_model(
        VideoMAEForSlices, recipe, resume, fields={"id2label": dict(enumerate(source.class_names or ()))}
    )
    clips = ClipConfig.from_config(head.config, masks=False, stride=2)
    loader = build_train_loader(recipe, source, clips, accelerator=accelerator, labels=LabelEncoder(num_classes=8))
    task = SlicesTask(recipe, model=head, source=source)
    return Trainer(recipe, accelerator=accelerator, model=head, task=task, loader=loader, resume=resume).train().step


def test_new_head_trains_resumes_and_loads(pretrained: Path, tmp_path: Path) -> None:
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    assert train(pretrained, straight) == 4
    assert (train(pretrained, parts, stop_at_step=2), train(pretrained, parts, resume="auto")) == (2, 4)
    losses = [line["loss"] for line in read_jsonl(parts / "metrics.jsonl")]
    assert losses == [line["loss"] for line in read_jsonl(straight / "metrics.jsonl")]
    assert losses[0] == pytest.approx(math.log(8), abs=0.5)

    saved = load_file(straight / "model.safetensors")
    assert {name for name in saved if not name.startswith("videomae.")} == {"head.weight", "head.bias"}
    loaded = VideoMAEForSlices.from_pretrained(straight)
    assert torch.equal(loaded.head.weight, saved["head.weight"]) and loaded.config.id2label[0] == "move_left"
    encoder = VideoMAEModel.from_pretrained(straight).state_dict()
    assert all(torch.equal(encoder[name], value) for name, value in loaded.videomae.state_dict().items())
    for other, options in ((VideoMAEForVideoClassification, {}), (VideoMAEForPreTraining, {"new_decoder": True})):
        restored = other.from_pretrained(straight, **options).videomae.encoder.state_dict()
        assert all(torch.equal(encoder[f"encoder.{name}"], value) for name, value in restored.items())

    video = torch.zeros(8, 64, 64, 3, dtype=torch.uint8)
    assert extract_features(straight, video, pool="mean")[0].features.shape == (1, 128)
    with pytest.raises(ValueError, match="holds no classifier"):
        predict(straight, video)

    path, _ = write_card(straight, model_id="org/slices")
    card = path.read_text(encoding="utf-8")
    assert "A VideoMAE that names the motion in each \\*slice\\* (2 layers 128 wide" in card
    assert 'VideoMAEForSlices.from_pretrained("org/slices")' in card and "pipeline_tag: feature-extraction" in card
    assert "reconstruct" not in card and "Its accuracy was not measured." in card


def test_head_loads_strictly(pretrained: Path, tmp_path: Path) -> None:
    _, info = VideoMAEForSlices.from_pretrained(pretrained, num_labels=3, output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["head.bias", "head.weight"]
    head = VideoMAEForSlices(VideoMAEConfig.from_preset("tiny", **SMALL))
    head.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"Not in the model: head\.bias, head\.weight"):
        VideoMAEForPreTraining.from_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["head.scale"] = torch.ones(1)
    lost = weights.pop("videomae.encoder.layer.0.output.dense.bias")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"Not in the file: .*output\.dense\.bias\. Not in the model: head\.scale"):
        VideoMAEForSlices.from_pretrained(tmp_path)
    assert lost.shape == (128,)


def test_list_of_files_of_a_head_is_true() -> None:
    guide = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    table = guide[guide.index("## Add a head") :].split("|---|---|\n")[1].split("\n\n")[0]
    files = re.findall(r"^\| \[?`([\w/.*]+)`", table, flags=re.MULTILINE)
    assert len(files) == len(table.splitlines()) == 5
    assert all(list(ROOT.glob(file)) for file in files), "each is a file, or a pattern that such files have"
    own_names = (Path(__file__).read_text(encoding="utf-8"), (ROOT / files[1]).read_text(encoding="utf-8"))
    named = set(re.findall(r"`(\w+)`", table)) - {"__init__"}
    assert {"VideoMAEPreTrainedModel", "VideoMAETask", "RunRecipe", "build_model", "does"} <= named
    assert not [name for name in named if not any(name in text for text in own_names)]

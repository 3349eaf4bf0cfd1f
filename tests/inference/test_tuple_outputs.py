"""Test that models configured to return tuples (`return_dict` false) work like others."""

import json
from pathlib import Path
from typing import Any

import pytest

from hf_videomae import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEVideoProcessor,
)
from hf_videomae.convert.stock import compare_with_stock
from hf_videomae.data import open_source
from hf_videomae.evaluation import evaluate
from hf_videomae.inference import extract_features, predict, predict_timeline, reconstruct, token_saliency
from tests.helpers.datasets_on_disk import write_folder

pytestmark = pytest.mark.fault


def write_pair(folder: Path, model_class: Any, **settings: Any) -> list[Path]:
    """Write the same weights twice: with the usual configuration, and with one that asks for tuples."""
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=1, **settings)
    model = model_class(config)
    for name in ("usual", "tuples"):
        model.save_pretrained(folder / name)
        VideoMAEVideoProcessor.from_config(config).save_pretrained(folder / name)
    path = folder / "tuples" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "return_dict": False}))
    return [folder / "usual", folder / "tuples"]


@pytest.mark.parametrize("task", ["predict", "features", "timeline", "saliency", "evaluate"])
def test_classifier_with_tuple_outputs_gives_the_same_numbers(tmp_path: Path, task: str) -> None:
    videos = write_folder(tmp_path / "videos", count=2)
    video = str(videos / "class_0" / "000.mp4")
    names = {0: "class_0", 1: "class_1"}
    results = []
    for folder in write_pair(tmp_path, VideoMAEForVideoClassification, task="classification", id2label=names):
        model = VideoMAEForVideoClassification.from_pretrained(folder)
        processor = VideoMAEVideoProcessor.from_pretrained(folder)
        if task == "predict":
            (prediction,) = predict(model, video, processor=processor)
            results.append(str(prediction))
        elif task == "features":
            results.append(
                [extracted.features.tolist() for extracted in extract_features(model, video, processor=processor)]
            )
        elif task == "timeline":
            results.append(str(predict_timeline(model, video, processor=processor)))
        elif task == "saliency":
            results.append(str(token_saliency(model, video, processor=processor)))
        else:
            source = open_source(str(videos), require_labels=True)
            results.append(
                evaluate(model, source, processor=processor, views="1x1", num_workers=0).to_dict()["metrics"]
            )
    assert results[0] == results[1]


def test_pretraining_model_with_tuple_outputs_gives_the_same_numbers(tmp_path: Path) -> None:
    video = write_folder(tmp_path / "videos", count=1) / "class_0" / "000.mp4"
    folders = write_pair(tmp_path, VideoMAEForPreTraining, decoder_num_hidden_layers=1)
    losses = [reconstruct(str(folder), str(video), seed=0).loss for folder in folders]
    assert losses[0] == losses[1]
    assert compare_with_stock(VideoMAEForPreTraining.from_pretrained(folders[1]).eval()).largest < 1e-4

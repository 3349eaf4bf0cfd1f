"""Test the multi-view evaluation: each video once, views merged, bad videos counted, invalid input refused."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from hf_videomae.data import DataError, MotionSource, Sample, open_source
from hf_videomae.evaluation import ClassMismatchError, evaluate
from hf_videomae.video.sampling import ClipSampler
from hf_videomae.video.views import MultiViewConfig, build_views, decode_views
from tests.helpers.videos import NAMES, Listed, answers, classifier, processor, samples, write_right_folder


@pytest.fixture(scope="module", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


def test_scores_are_the_mean_softmax_of_the_views() -> None:
    model = classifier()
    result = evaluate(model, Listed(samples(3)), processor=processor(model), views="2x3", batch_size=5)
    plan = MultiViewConfig(clip=ClipSampler(num_frames=8, stride=2, views=2), crops=3, size=(64, 64))
    for number, sample in enumerate(samples(3)):
        with torch.no_grad():
            logits = model(build_views(decode_views(sample.video, plan=plan), plan=plan)).logits
        torch.testing.assert_close(result.probabilities[number], logits.softmax(-1).mean(0), atol=1e-6, rtol=0)
        torch.testing.assert_close(result.logits[number], logits.mean(0), atol=1e-5, rtol=0)
    assert result.sample_ids == ["0/clip.mp4", "1/clip.mp4", "2/clip.mp4"]
    assert (result.views["temporal"], result.views["spatial"]) == (2, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_files_are_listed_and_count_as_wrong(tmp_path: Path, workers: int) -> None:
    model = classifier()
    folder = write_right_folder(tmp_path, model, count=9)
    settings = {"processor": processor(model), "views": "2x3", "num_workers": workers}
    whole = evaluate(model, open_source(str(folder)), **settings)
    assert (whole.top1, len(whole.failed)) == (1.0, 0)

    damaged = random.Random(1).sample(sorted(folder.rglob("*.mp4")), 2)
    damaged[0].write_bytes(damaged[0].read_bytes()[:2000])
    damaged[1].write_bytes(b"")
    result = evaluate(model, open_source(str(folder)), **settings)
    assert {video.path for video in result.failed} == {str(path) for path in damaged}
    assert all(video.reason for video in result.failed)
    assert len(result.sample_ids) == 9 and result.top1 == pytest.approx(7 / 9)
    assert result.to_dict()["counts"] == {"videos": 9, "decoded": 7, "failed": 2}
    torch.testing.assert_close(result.logits[result.decoded], whole.logits[result.decoded], atol=1e-5, rtol=0)


def test_streamed_source_is_seen_once(tmp_path: Path) -> None:
    from hf_videomae.data.hub_dataset import HubDataset

    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"video": datasets.Video(), "label": datasets.ClassLabel(names=NAMES)})
    motion = MotionSource(split="test")
    (tmp_path / "data").mkdir()
    for shard, indices in enumerate([range(0, 3), range(3, 5)]):
        rows = {
            "video": [{"bytes": motion[index].video, "path": None} for index in indices],
            "label": [index % 3 for index in indices],
        }
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(tmp_path / "data" / f"test-{shard:05d}-of-00002.parquet")
    model = classifier()
    streamed = evaluate(model, HubDataset(str(tmp_path), split="test"), processor=processor(model), views="1x1")
    listed = evaluate(model, Listed(samples(5, labels=[0, 1, 2, 0, 1])), processor=processor(model), views="1x1")
    torch.testing.assert_close(streamed.logits, listed.logits, atol=1e-5, rtol=0)
    assert streamed.labels.tolist() == listed.labels.tolist() and len(set(streamed.sample_ids)) == 5


def test_stock_model_gives_the_same_numbers(tmp_path: Path) -> None:
    ours = classifier()
    ours.save_pretrained(tmp_path)
    stock = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path)
    first, second = (evaluate(model, Listed(samples(2)), views="1x1") for model in (ours, stock))
    torch.testing.assert_close(first.logits, second.logits, atol=1e-5, rtol=0)
    assert second.model["class"] == "transformers.VideoMAEForVideoClassification"


def test_classes_match_by_name_in_a_larger_head() -> None:
    model = classifier(id2label={0: "walking", 1: "waving", 2: "clapping", 3: "Boxing"})
    result = evaluate(model, Listed(samples(3, labels=[0, 1, 2])), processor=processor(model), views="1x1")
    assert result.labels.tolist() == [3, 2, 1]
    assert result.data["classes"] == 3 and result.model["classes"] == 4


def test_mode_and_random_state_do_not_change() -> None:
    model = classifier().train()
    state = torch.get_rng_state()
    evaluate(model, Listed(samples(1)), processor=processor(model), views="1x1")
    assert model.training and torch.equal(torch.get_rng_state(), state)


def broken(model_change: str) -> torch.nn.Module:
    model = classifier()
    if model_change == "nan":
        with torch.no_grad():
            model.classifier.weight.fill_(float("nan"))
    elif model_change == "several":
        model.config.problem_type = "multi_label_classification"
    elif model_change == "numbers":
        model.config.problem_type = "regression"
    elif model_change == "encoder":
        return model.videomae
    return model


@pytest.mark.parametrize(
    ("source", "change", "error", "words"),
    [
        (Listed(samples(2, labels=[0, 7])), "", DataError, "1/clip.mp4 has the label 7, but the classes are 0 to 2"),
        (Listed([Sample(id="x", video=b"", label=None)]), "", DataError, "x has no label"),
        (Listed([Sample(id="x", video=b"", label=0)]), "", DataError, "none of the 1 videos"),
        (Listed([]), "", DataError, "empty"),
        (Listed(samples(1), class_names=["other"]), "", ClassMismatchError, "'other'"),
        (Listed(samples(1)), "nan", ValueError, "not finite"),
        (Listed(samples(1)), "several", DataError, "0/clip.mp4 has the label 0, but class numbers"),
        (Listed(samples(1)), "numbers", ClassMismatchError, "listed has 3 classes, and the model predicts numbers"),
        (Listed(samples(1)), "encoder", ValueError, "VideoMAEModel has no classifier"),
    ],
)
def test_unsuitable_models_and_labels_are_refused(
    source: Listed, change: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        evaluate(broken(change), source, views="1x1")


def test_unlabeled_sets_and_invalid_settings_are_refused() -> None:
    source = Listed(samples(1))
    source.class_names = None
    with pytest.raises(DataError, match="no labels"):
        evaluate(classifier(), source)
    with pytest.raises(ValueError, match="5x3"):
        evaluate(classifier(), Listed(samples(1)), views="five")
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluate(classifier(), Listed(samples(1)), batch_size=0)


def test_answers_of_the_test_model_vary() -> None:
    assert len(set(answers(classifier(), 9))) > 1
    assert replace(samples(1)[0], label=1).label == 1

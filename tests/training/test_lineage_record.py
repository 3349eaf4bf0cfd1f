"""Test what run.json records about the origin of a run; the Hub is a local server."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hf_videomae.configuration_videomae import VideoMAEConfig
from hf_videomae.data import open_mixture
from hf_videomae.modeling_videomae import VideoMAEForPreTraining
from hf_videomae.training import PretrainRecipe, PretrainTask, build_pretraining_model
from hf_videomae.training.lineage_record import parse_recipe_flags
from tests.helpers.datasets_on_disk import write_folder, write_parquet
from tests.local_hub import LocalHub


@pytest.fixture
def published(hub: LocalHub) -> LocalHub:
    """Publish `org/pre`, made from a non-commercial model, and the videos `org/videos`."""
    config = VideoMAEConfig.from_preset("tiny", task="pretraining")
    VideoMAEForPreTraining(config).save_pretrained(hub.model("org/pre"))
    first = {"model": "path/to/first", "hub_id": None, "revision": None, "license": "cc-by-nc-4.0", "ancestors": []}
    (hub.model("org/pre") / "run.json").write_text(json.dumps({"parents": [first]}))
    (hub.model("org/pre") / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    write_parquet(hub.dataset("org/videos"), rows=(3,))
    (hub.dataset("org/videos") / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    return hub


def facts_of(output_dir: Path, **settings: Any) -> dict[str, Any]:
    recipe = PretrainRecipe(output_dir=str(output_dir), **settings)
    source = open_mixture(recipe.dataset, weights=recipe.dataset_weights)
    return PretrainTask(recipe, model=build_pretraining_model(recipe), source=source).run_metadata()


def test_metadata_names_parent_and_data_of_the_hub(
    published: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--recipe=mine", "--base-lr", "1e-3"])
    run_metadata = facts_of(tmp_path, model="org/pre", dataset="org/videos")
    assert (run_metadata["recipe_name"], run_metadata["recipe_flags"]) == ("mine", ["base_lr"])
    (parent,) = run_metadata["parents"]
    assert (parent["hub_id"], parent["revision"]) == ("org/pre", HfApi().model_info("org/pre").sha)
    assert parent["license"] == "cc-by-nc-4.0" and [one["model"] for one in parent["ancestors"]] == ["path/to/first"]
    data = run_metadata["data"]
    assert (data["hub_id"], data["license"]) == ("org/videos", "cc-by-4.0")
    assert data["revision"] == HfApi().dataset_info("org/videos").sha and len(data["revision"]) == 40


def test_resumed_run_keeps_recorded_parents(
    published: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--recipe", "mine"])
    before = facts_of(tmp_path, model="org/pre")
    (tmp_path / "run.json").write_text(json.dumps(before))
    (published.model("org/pre") / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--resume", "--max_steps", "9"])
    after = facts_of(tmp_path, model="org/pre")
    assert after["parents"] == before["parents"] and after["recipe_name"] == "mine"
    assert after["recipe_flags"] == ["max_steps", "resume"]
    (tmp_path / "run.json").unlink()
    assert facts_of(tmp_path, model="org/pre")["parents"] != before["parents"]


def test_unreachable_hub_leaves_license_unknown(published: LocalHub, tmp_path: Path) -> None:
    recipe = PretrainRecipe(output_dir=str(tmp_path), model="org/pre", dataset="org/videos")
    model, source = build_pretraining_model(recipe), open_mixture(recipe.dataset)
    commits = HfApi().model_info("org/pre").sha, HfApi().dataset_info("org/videos").sha
    published.fail("(README.md|run.json)", status=520, times=None)
    task = PretrainTask(recipe, model=model, source=source)
    (parent,) = task.run_metadata()["parents"]
    assert parent["license"] is None and "org/pre" in parent["unknown"]
    assert (parent["revision"], task.run_metadata()["data"]["revision"]) == commits  # known from the download
    asked = len(published.requests())
    task.run_metadata()
    assert len(published.requests()) == asked  # the metadata is collected once


def test_metadata_lists_each_dataset_of_a_mix(tmp_path: Path) -> None:
    (write_folder(tmp_path / "clips", count=2) / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    data = facts_of(tmp_path / "run", dataset=("motion", str(tmp_path / "clips")))["data"]
    assert [part["dataset"] for part in data["mix"]] == data["dataset"] == ["motion", str(tmp_path / "clips")]
    assert [part.get("license") for part in data["mix"]] == [None, "cc-by-nc-4.0"] and data["videos"] is not None


def test_parse_recipe_flags_finds_recipe_and_flags() -> None:
    assert parse_recipe_flags(["--recipe", "a/b.yaml", "--num-workers=2", "x"]) == ("a/b.yaml", {"num_workers"})
    assert parse_recipe_flags(["--model", "tiny"]) == (None, {"model"})
    assert parse_recipe_flags(["--recipe"]) == (None, set())

"""The check of a card's header: it finds what is wrong, and its names are those of the Hub."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hf_videomae.cards.card_check import check_card
from hf_videomae.cards.header import load_hub_names

GOOD = {
    "pipeline_tag": "video-classification",
    "library_name": "transformers",
    "base_model": "org/base",
    "datasets": ["kinetics400", "org/videos"],
    "widget": [{"src": "a.mp4", "output": [{"label": "run", "score": 0.5}]}],
    "model-index": [
        {
            "name": "model",
            "results": [
                {
                    "task": {"type": "video-classification"},
                    "dataset": {"name": "K400", "type": "k400"},
                    "metrics": [{"type": "accuracy", "value": 0.5}],
                }
            ],
        }
    ],
}


def card(**fields: object) -> str:
    return f"---\n{yaml.safe_dump({**GOOD, **fields}, sort_keys=False)}---\n\n# A model\n"


def test_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    assert check_card(card(), tmp_path) == []
    assert check_card(card()) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pipeline_tag": "video-pretraining"}, "pipeline_tag 'video-pretraining' is not one"),
        ({"library_name": "hf_videomae"}, "library_name 'hf_videomae' is not one"),
        ({"license": "cc-by-4"}, "license 'cc-by-4' is not one"),
        ({"license": "other"}, "say which in license_name"),
        ({"base_model": "/home/anna/model"}, "base_model '/home/anna/model' is no name"),
        ({"datasets": ["a/b/c"]}, "datasets 'a/b/c' is no name"),
        ({"widget": [{"src": "b.mp4"}]}, "b.mp4, which is not in the folder"),
        ({"widget": [{"text": "hello"}]}, "has no src"),
        ({"widget": [{"src": "a.mp4", "output": {"label": "run"}}]}, "not a list of label"),
        ({"widget": [{"src": "a.mp4", "output": [{"label": "run", "score": "0.5"}]}]}, "not a list of label"),
        ({"model-index": [{"results": []}]}, "model-index cannot be read"),
        ({"model-index": [{**GOOD["model-index"][0], "extra": 1}]}, "model-index loses something"),  # type: ignore[index]
    ],
)
def test_what_is_wrong(fields: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    (problem,) = check_card(card(**fields), tmp_path)
    assert words in problem


def test_no_header() -> None:
    assert "not YAML" in check_card("---\na: [\n---\n")[0]
    assert len(check_card("# A model\n")) == 2


def test_names_are_those_of_the_package() -> None:
    """Against the package itself, where it is unpacked: its folder in HUGGINGFACE_TASKS."""
    folder, node = os.environ.get("HUGGINGFACE_TASKS"), shutil.which("node")
    if folder is None or node is None:
        pytest.skip("needs node, and the folder of the package @huggingface/tasks in HUGGINGFACE_TASKS")
    code = (
        f"const t = require({json.dumps(folder)}); console.log(JSON.stringify({{"
        "pipeline_tags: Object.keys(t.PIPELINE_DATA), libraries: Object.keys(t.MODEL_LIBRARIES_UI_ELEMENTS)}))"
    )
    found = json.loads(subprocess.run([node, "-e", code], capture_output=True, check=True, text=True).stdout)
    assert {key: frozenset(values) for key, values in found.items()} == {key: load_hub_names()[key] for key in found}

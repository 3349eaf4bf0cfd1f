"""Test the check of a card's header, and that its names are those of the Hub."""

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


def test_valid_card_has_no_problems(tmp_path: Path) -> None:
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
        ({"base_model": "/home/anna/model"}, "base_model '/home/anna/model' is not the name"),
        ({"datasets": ["a/b/c"]}, "datasets 'a/b/c' is not the name"),
        ({"widget": [{"src": "b.mp4"}]}, "b.mp4, which is not in the folder"),
        ({"widget": [{"text": "hello"}]}, "has no src"),
        ({"widget": [{"src": "a.mp4", "output": {"label": "run"}}]}, "not a list of label"),
        ({"widget": [{"src": "a.mp4", "output": [{"label": "run", "score": "0.5"}]}]}, "not a list of label"),
        ({"model-index": [{"results": []}]}, "model-index cannot be read"),
        ({"model-index": [{**GOOD["model-index"][0], "extra": 1}]}, "model-index changes"),  # type: ignore[index]
    ],
)
def test_invalid_field_gives_one_problem(fields: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    (problem,) = check_card(card(**fields), tmp_path)
    assert words in problem


def test_card_without_valid_header_has_problems() -> None:
    assert "not YAML" in check_card("---\na: [\n---\n")[0]
    assert len(check_card("# A model\n")) == 2


def test_hub_names_match_huggingface_tasks() -> None:
    """Compare with the package itself, if HUGGINGFACE_TASKS names its folder."""
    folder, node = os.environ.get("HUGGINGFACE_TASKS"), shutil.which("node")
    if folder is None or node is None:
        pytest.skip("needs node, and the folder of the package @huggingface/tasks in HUGGINGFACE_TASKS")
    code = (
        f"const t = require({json.dumps(folder)}); console.log(JSON.stringify({{"
        "pipeline_tags: Object.keys(t.PIPELINE_DATA), libraries: Object.keys(t.MODEL_LIBRARIES_UI_ELEMENTS)}))"
    )
    found = json.loads(subprocess.run([node, "-e", code], capture_output=True, check=True, text=True).stdout)
    assert {key: frozenset(values) for key, values in found.items()} == {key: load_hub_names()[key] for key in found}

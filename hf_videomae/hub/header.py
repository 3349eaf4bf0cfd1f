"""The YAML header of a card, and a check of it that needs no network.

The Hub's own check is a request; `ModelCard` alone takes any tag. The names of tags and libraries are those of the
package `@huggingface/tasks`, in `names.json` with its version.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .parts import CLASSIFIER

LIBRARY = "transformers"
TAGS = ("videomae", "video")
_NAMES_FILE = Path(__file__).with_name("names.json")


def pipeline_tag(architecture: str) -> str:
    """The task that the Hub files a model under.

    A pre-trained checkpoint has no tag of its own: features are what it gives. As `video-classification`, which the
    published ones say, a stock pipeline would answer with a classifier of random weights.
    """
    return "video-classification" if architecture == CLASSIFIER else "feature-extraction"


def to_yaml(**fields: Any) -> str:
    """The header of these fields of `huggingface_hub.ModelCardData`, without those that are empty."""
    from huggingface_hub import ModelCardData

    return str(ModelCardData(**{name: value for name, value in fields.items() if value}).to_yaml())


@cache
def hub_names() -> Mapping[str, frozenset[str]]:
    """`pipeline_tags` and `libraries`: the names that the Hub knows."""
    found = json.loads(_NAMES_FILE.read_text(encoding="utf-8"))
    return {key: frozenset(found[key]) for key in ("pipeline_tags", "libraries")}


def check_card(text: str, folder: str | Path | None = None) -> list[str]:
    """What is wrong in the header of a model card, as far as that shows without the network.

    Args:
        text: the whole card.
        folder: of the card; files that the header names must be in it. None: they are not looked for.

    Returns:
        A line for each problem.
    """
    import yaml
    from huggingface_hub import RepoCard

    try:
        fields = RepoCard(text, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, yaml.YAMLError) as error:
        return [f"the header is not YAML: {' '.join(str(error).split())}"]
    return [
        *_name_problems(fields),
        *_id_problems(fields),
        *_widget_problems(fields, None if folder is None else Path(folder)),
        *_index_problems(fields),
    ]


def _name_problems(fields: dict[str, Any]) -> list[str]:
    names, problems = hub_names(), []
    for key, known in (("pipeline_tag", "pipeline_tags"), ("library_name", "libraries")):
        if fields.get(key) not in names[known]:
            problems.append(f"{key} {fields.get(key)!r} is not one that the Hub knows")
    return problems


def _id_problems(fields: dict[str, Any]) -> list[str]:
    problems = []
    for key in ("base_model", "datasets"):
        values = fields.get(key) or []
        for value in [values] if isinstance(values, str) else values:
            if not isinstance(value, str) or value.startswith((".", "/")) or value.count("/") > 1:
                problems.append(f"{key} {value!r} is no name of a repository (org/name)")
    return problems


def _widget_problems(fields: dict[str, Any], folder: Path | None) -> list[str]:
    problems = []
    for example in fields.get("widget") or []:
        src = example.get("src") if isinstance(example, dict) else None
        if not isinstance(src, str):
            problems.append(f"the widget example {example!r} has no src")
            continue
        if folder is not None and "://" not in src and not (folder / src).is_file():
            problems.append(f"the widget shows {src}, which is not in the folder")
        if not _is_classification(example.get("output", [])):
            problems.append(f"the output of the widget example {src} is not a list of label (text) and score (number)")
    return problems


def _is_classification(output: Any) -> bool:
    """The task's output schema: an array of objects, each with a text `label` and a number `score`."""
    return isinstance(output, list) and all(
        isinstance(answer, dict)
        and isinstance(answer.get("label"), str)
        and isinstance(answer.get("score"), (int, float))
        and not isinstance(answer.get("score"), bool)
        for answer in output
    )


def _index_problems(fields: dict[str, Any]) -> list[str]:
    """Whether `model-index` says the same after huggingface_hub has read and written it."""
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    index = fields.get("model-index")
    if index is None:
        return []
    try:
        name, results = model_index_to_eval_results(index)
        again = eval_results_to_model_index(name, results)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return [f"model-index cannot be read: {error!r}"]
    return [] if again == index else ["model-index loses something when huggingface_hub reads and writes it"]

"""The YAML header of a model's card, and a check of it that needs no network."""

from pathlib import Path
from typing import Any

from .header import check_header, find_unknown_names, parse_header
from .snippets import CLASSIFIER_CLASS

CARD_LIBRARY = "transformers"
CARD_TAGS = ("videomae", "video")


def pipeline_tag(architecture: str) -> str:
    """The task that the Hub files a model under.

    A pre-trained checkpoint has no tag of its own: features are what it gives. As `video-classification`, which the
    published ones say, a stock pipeline would answer with a classifier of random weights.
    """
    return "video-classification" if architecture == CLASSIFIER_CLASS else "feature-extraction"


def check_card(text: str, folder: str | Path | None = None) -> list[str]:
    """What is wrong in the header of a model card, as far as that shows without the network.

    Args:
        text: the whole card.
        folder: of the card; files that the header names must be in it. None: they are not looked for.

    Returns:
        A line for each problem.
    """
    try:
        fields = parse_header(text)
    except ValueError as error:
        return [str(error)]
    return [
        *_hub_name_problems(fields),
        *check_header(fields),
        *_widget_problems(fields, None if folder is None else Path(folder)),
        *_model_index_problems(fields),
    ]


def _hub_name_problems(fields: dict[str, Any]) -> list[str]:
    return [
        *find_unknown_names(fields, "pipeline_tag", known="pipeline_tags"),
        *find_unknown_names(fields, "library_name", known="libraries"),
    ]


def _widget_problems(fields: dict[str, Any], folder: Path | None) -> list[str]:
    problems = []
    for example in fields.get("widget") or []:
        src = example.get("src") if isinstance(example, dict) else None
        if not isinstance(src, str):
            problems.append(f"the widget example {example!r} has no src")
            continue
        if folder is not None and "://" not in src and not (folder / src).is_file():
            problems.append(f"the widget shows {src}, which is not in the folder")
        if not is_classification_output(example.get("output", [])):
            problems.append(f"the output of the widget example {src} is not a list of label (text) and score (number)")
    return problems


def is_classification_output(output: Any) -> bool:
    """Whether it is as the task says it: an array of objects, each with a text `label` and a number `score`."""
    return isinstance(output, list) and all(
        isinstance(answer, dict)
        and isinstance(answer.get("label"), str)
        and isinstance(answer.get("score"), (int, float))
        and not isinstance(answer.get("score"), bool)
        for answer in output
    )


def _model_index_problems(fields: dict[str, Any]) -> list[str]:
    """Whether `model-index` says the same after huggingface_hub has read and written it."""
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    model_index = fields.get("model-index")
    if model_index is None:
        return []
    try:
        name, results = model_index_to_eval_results(model_index)
        rewritten = eval_results_to_model_index(name, results)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return [f"model-index cannot be read: {error!r}"]
    return [] if rewritten == model_index else ["model-index loses something when huggingface_hub reads and writes it"]

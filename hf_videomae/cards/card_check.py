"""Check the YAML header of a model card without the network."""

from pathlib import Path
from typing import Any

from .header import check_header, find_unknown_names, parse_header
from .snippets import CLASSIFIER_CLASS

CARD_LIBRARY = "transformers"
CARD_TAGS = ("videomae", "video")


def pipeline_tag(architecture: str) -> str:
    """Return the task that the Hub lists a model under.

    There is no tag for a pre-trained checkpoint, so it is `feature-extraction`. The published ones say
    `video-classification`; a stock pipeline then answers with a classifier of random weights.
    """
    return "video-classification" if architecture == CLASSIFIER_CLASS else "feature-extraction"


def check_card(text: str, folder: str | Path | None = None) -> list[str]:
    """Return the problems of a model card's header that can be found without the network, one line each.

    Args:
        text: the whole card.
        folder: the card's folder, which must hold the files that the header names; None: they are not checked.
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
    """Return whether a value is a list of objects, each with a text `label` and a number `score`, as the task asks."""
    return isinstance(output, list) and all(
        isinstance(answer, dict)
        and isinstance(answer.get("label"), str)
        and isinstance(answer.get("score"), (int, float))
        and not isinstance(answer.get("score"), bool)
        for answer in output
    )


def _model_index_problems(fields: dict[str, Any]) -> list[str]:
    """Check that huggingface_hub can read `model-index` and writes the same again."""
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    model_index = fields.get("model-index")
    if model_index is None:
        return []
    try:
        name, results = model_index_to_eval_results(model_index)
        rewritten = eval_results_to_model_index(name, results)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return [f"model-index cannot be read: {error!r}"]
    return [] if rewritten == model_index else ["model-index changes when huggingface_hub reads and writes it"]

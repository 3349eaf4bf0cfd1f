"""What an evaluation says, for a card: the results of the header, the tables, and the line beside the paper's."""

from dataclasses import fields
from typing import Any

from ..cards import code_span, plain, table
from .facts import CONFUSION_FILE, RunFacts
from .paper import PUBLISHED, Published

_SHOWN_CLASSES, _SHOWN_FAILED = 20, 20

# What of a recipe may be set anew with its number still meant, besides what does not change numbers at all.
_FREE = {
    *("model", "dataset", "split", "seed", "batch_size", "gradient_accumulation"),
    *("gradient_checkpointing", "mixed_precision", "compile"),
}

# Key in evaluation.json -> (metric as the Hub calls it, its name here).
_METRICS = {
    "top1": ("accuracy", "top-1 accuracy"),
    "top5": ("accuracy", "top-5 accuracy"),
    "mean_class_accuracy": ("accuracy", "mean class accuracy"),
    "mean_average_precision": ("mean_average_precision", "mean average precision"),
    "micro_f1": ("f1", "micro F1"),
    "macro_f1": ("f1", "macro F1"),
    "mae": ("mae", "mean absolute error"),
    "rmse": ("rmse", "root mean squared error"),
    "r2": ("r_squared", "R2"),
    "pearson": ("pearsonr", "Pearson correlation"),
}


def evaluation_results(facts: RunFacts) -> list[Any]:
    """An EvalResult for each number of the evaluation."""
    from huggingface_hub import EvalResult

    found = facts.evaluation
    if found is None or facts.evaluated_on is None:
        return []
    counts = found["counts"]
    return [
        EvalResult(
            task_type="video-classification",
            dataset_type=facts.evaluated_on.hub_id or facts.evaluated_on.name,
            dataset_name=facts.evaluated_on.name,
            dataset_split=found["data"].get("split"),
            metric_type=kind,
            metric_name=name,
            metric_value=round(found["metrics"][key], 4),
            metric_args={"views": views_of(found), "videos": counts["videos"], "failed": counts["failed"]},
        )
        for key, (kind, name) in _METRICS.items()
        if found["metrics"].get(key) is not None
    ]


def views_of(found: dict[str, Any]) -> str:
    """The views of an evaluation, as 5x3."""
    return f"{found['views']['temporal']}x{found['views']['spatial']}"


def evaluation(facts: RunFacts) -> list[str | None]:
    """The paragraphs of the evaluation: how it was done, the numbers, what failed, each class."""
    found = facts.evaluation
    if found is None:
        return []
    error = found["metrics"].get("top1_standard_error")
    rows = []
    for key, (_, name) in _METRICS.items():
        value = found["metrics"].get(key)
        if value is not None:
            margin = f" ± {error:.4f} (standard error)" if key == "top1" and error is not None else ""
            rows.append((name, f"{value:.4f}{margin}"))
    picture = f"![Confusion matrix]({CONFUSION_FILE})" if CONFUSION_FILE in facts.files else None
    return [_protocol(facts, found), table(("metric", "value"), rows), *_failed(found), *_classes(found), picture]


def _protocol(facts: RunFacts, found: dict[str, Any]) -> str:
    views, counts, data = found["views"], found["counts"], found["data"]
    where = "" if facts.evaluated_on is None else f" of {code_span(facts.evaluated_on.name)}"
    split = f", split {code_span(data['split'])}" if data.get("split") else ""
    apart = f"stride {views.get('stride')}"
    if views.get("sampling") != "dense":
        apart = f"{views.get('sampling')} over the video"
    elif views.get("frame_seconds") is not None:
        apart = f"{views['frame_seconds']:g} s apart"
    size = "x".join(map(str, views.get("size", ())))
    chance = ""
    if data.get("classes") and "top1" in found["metrics"]:
        chance = f" Chance is {1 / data['classes']:.3f}."
    return (
        f"{counts['videos']} videos{where}{split}; {views_of(found)} views (temporal x spatial) of "
        f"{views.get('frames')} frames, {apart}, {size} pixels; {views.get('merge')}. {_decoded(found)}{chance}"
    )


def _decoded(found: dict[str, Any]) -> str:
    counts = found["counts"]
    if not counts["failed"]:
        return "All were decoded."
    how = found.get("failed_count_as")
    return f"{counts['failed']} could not be decoded; these {'are' if how == 'left out' else 'count as'} {how}."


def _failed(found: dict[str, Any]) -> list[str | None]:
    failed = found.get("failed_videos") or []
    rows = [(code_span(video["id"]), plain(video["reason"])) for video in failed[:_SHOWN_FAILED]]
    more = f"... and {len(failed) - _SHOWN_FAILED} more." if len(failed) > _SHOWN_FAILED else None
    return [table(("not decoded", "why"), rows), more]


def _classes(found: dict[str, Any]) -> list[str | None]:
    """A row for each class or output, or for the worst where there are many."""
    rows, outputs = found.get("per_class") or [], found.get("per_output") or []
    if outputs:
        cells = [
            (plain(row["name"]), *(_shown(row[key]) for key in ("mae", "rmse", "r2", "pearson"))) for row in outputs
        ]
        return [table(("output", "mean absolute error", "RMSE", "R2", "Pearson"), cells[:_SHOWN_CLASSES])]
    if not rows:
        return []
    score = "accuracy" if "accuracy" in rows[0] else "average_precision"
    few = len(rows) <= _SHOWN_CLASSES
    shown = rows if few else sorted(rows, key=lambda row: row[score])[:_SHOWN_CLASSES]
    said = None if few else f"The {_SHOWN_CLASSES} classes of {len(rows)} that it knows least:"
    if score == "accuracy":
        cells = [
            (plain(row["name"]), row["videos"], _shown(row[score]), plain(row.get("mistaken_for") or ""))
            for row in shown
        ]
        return [said, table(("class", "videos", "accuracy", "most often taken for"), cells)]
    cells = [(plain(row["name"]), row["videos"], _shown(row[score]), _shown(row.get("f1"))) for row in shown]
    return [said, table(("class", "videos", "average precision", "F1 at 0.5"), cells)]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def comparison(facts: RunFacts) -> str | None:
    """A line, where the run is one of a recipe that has a published number, and was tested as that was."""
    found, recipe = facts.evaluation, recipe_name(facts.run)
    published = PUBLISHED.get(recipe or "")
    if found is None or published is None or not _is_comparable(facts.run, found, published):
        return None
    top5 = "" if published.top5 is None else f" / {published.top5} top-5"
    measured = " / ".join(
        f"{100 * found['metrics'][key]:.1f} {name}"
        for key, name in (("top1", "top-1"), ("top5", "top-5"))
        if found["metrics"].get(key) is not None and (key == "top1" or published.top5 is not None)
    )
    return (
        f"The recipe {code_span(recipe)} is published with {published.top1} top-1{top5} on {published.data}, "
        f"{published.views} views ({published.source}). Measured here: {measured}, {views_of(found)} views, "
        f"{found['counts']['videos']} videos. The two mean the same only where the data do."
    )


def _is_comparable(run: dict[str, Any], found: dict[str, Any], published: Published) -> bool:
    from ..training.finetuning import FinetuneRecipe

    elsewhere = {field.name for field in fields(FinetuneRecipe) if not field.metadata["identity"]}
    return (
        run.get("status") == "finished"
        and found["metrics"].get("top1") is not None
        and found["data"].get("classes") == published.classes
        and views_of(found) == published.views
        and found["views"].get("sampling") == run.get("recipe", {}).get("sampling")
        and not set(run.get("recipe_flags") or ()) - _FREE - elsewhere
    )


def recipe_name(run: dict[str, Any]) -> str | None:
    """The recipe of a run without folder and ending; None: its settings were given one by one."""
    name = run.get("recipe_name")
    return name.split("/")[-1].removesuffix(".yaml") if name else None


def weakest(found: dict[str, Any] | None) -> str | None:
    """A sentence on how unlike the classes are, where they are."""
    rows = [row for row in (found or {}).get("per_class") or [] if "accuracy" in row]
    if len(rows) < 2:
        return None
    worst, best = (pick(rows, key=lambda row: row["accuracy"]) for pick in (min, max))
    if worst["accuracy"] == best["accuracy"]:
        return None
    return (
        f"Classes differ: {code_span(best['name'])} is right for {best['accuracy']:.0%} of its {best['videos']} "
        f"test videos, {code_span(worst['name'])} for {worst['accuracy']:.0%} of {worst['videos']}."
    )

"""Render the evaluation of a run for its card: results for the header, tables, comparison with the paper."""

from typing import Any

from . import code_span, escape_markdown, table
from .paper import PAPER_RESULTS, PaperResult
from .run_metadata import CONFUSION_FILE, RunMetadata

_MAX_CLASSES, _MAX_FAILED = 20, 20

# Fields of a recipe that may be overridden in a run that is still compared with the recipe's published number.
_OVERRIDABLE_FIELDS = {
    *("model", "dataset", "split", "seed", "batch_size", "gradient_accumulation"),
    *("gradient_checkpointing", "mixed_precision", "compile"),
}

# Key in evaluation.json -> (metric in the Hub's spelling, its name here).
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
NON_NUMERIC_FLAGS = frozenset(
    (
        "allow_paths cache_dir eval_every eval_views hub_model_id hub_private hub_strategy keep_checkpoints "
        "log_every log_samples max_bad_share max_nonfinite num_workers output_dir overwrite prefetch "
        "push_to_hub report_to resume save_every stop_at_step test_dataset test_split tuned_batch views "
    ).split()
)
"""Flags of fine-tuning that do not change the numbers of the training (`affects_numerics` in the recipe)."""


def build_eval_results(metadata: RunMetadata) -> list[Any]:
    """Return an `EvalResult` of huggingface_hub for each number of the evaluation."""
    from huggingface_hub import EvalResult

    evaluation, dataset = metadata.evaluation, metadata.evaluation_dataset
    if evaluation is None or dataset is None:
        return []
    counts = evaluation["counts"]
    return [
        EvalResult(
            task_type="video-classification",
            dataset_type=dataset.hub_id or dataset.name,
            dataset_name=dataset.name,
            dataset_split=evaluation["data"].get("split"),
            metric_type=metric_type,
            metric_name=name,
            metric_value=round(evaluation["metrics"][key], 4),
            metric_args={"views": format_views(evaluation), "videos": counts["videos"], "failed": counts["failed"]},
        )
        for key, (metric_type, name) in _METRICS.items()
        if evaluation["metrics"].get(key) is not None
    ]


def format_views(evaluation: dict[str, Any]) -> str:
    """Return the views of an evaluation, such as 5x3."""
    return f"{evaluation['views']['temporal']}x{evaluation['views']['spatial']}"


def render_evaluation(metadata: RunMetadata) -> str:
    """Return the paragraphs of the evaluation: the protocol, the numbers, the failed videos, the classes."""
    evaluation = metadata.evaluation
    if evaluation is None:
        return ""
    error = evaluation["metrics"].get("top1_standard_error")
    rows = []
    for key, (_, name) in _METRICS.items():
        value = evaluation["metrics"].get(key)
        if value is not None:
            margin = f" ± {error:.4f} (standard error)" if key == "top1" and error is not None else ""
            rows.append((name, f"{value:.4f}{margin}"))
    picture = f"![Confusion matrix]({CONFUSION_FILE})" if CONFUSION_FILE in metadata.files else None
    paragraphs = [
        _protocol_sentence(metadata, evaluation),
        table(("metric", "value"), rows),
        *_failed_videos_table(evaluation),
        *_per_class_table(evaluation),
        picture,
    ]
    return "\n\n".join(filter(None, paragraphs))


def _protocol_sentence(metadata: RunMetadata, evaluation: dict[str, Any]) -> str:
    views, counts, data = evaluation["views"], evaluation["counts"], evaluation["data"]
    where = "" if metadata.evaluation_dataset is None else f" of {code_span(metadata.evaluation_dataset.name)}"
    split = f", split {code_span(data['split'])}" if data.get("split") else ""
    frame_spacing = f"stride {views.get('stride')}"
    if views.get("sampling") != "dense":
        frame_spacing = f"{views.get('sampling')} over the video"
    elif views.get("frame_seconds") is not None:
        frame_spacing = f"{views['frame_seconds']:g} s apart"
    size = "x".join(map(str, views.get("size", ())))
    chance = ""
    if data.get("classes") and "top1" in evaluation["metrics"]:
        chance = f" Chance is {1 / data['classes']:.3f}."
    return (
        f"{counts['videos']} videos{where}{split}; {format_views(evaluation)} views (temporal x spatial) of "
        f"{views.get('frames')} frames, {frame_spacing}, {size} pixels; {views.get('merge')}. "
        f"{_decoded_sentence(evaluation)}{chance}"
    )


def _decoded_sentence(evaluation: dict[str, Any]) -> str:
    counts = evaluation["counts"]
    if not counts["failed"]:
        return "All were decoded."
    how = evaluation.get("failed_count_as")
    return f"{counts['failed']} could not be decoded; these {'are' if how == 'left out' else 'count as'} {how}."


def _failed_videos_table(evaluation: dict[str, Any]) -> list[str | None]:
    failed = evaluation.get("failed_videos") or []
    rows = [(code_span(video["id"]), escape_markdown(video["reason"])) for video in failed[:_MAX_FAILED]]
    more = f"... and {len(failed) - _MAX_FAILED} more." if len(failed) > _MAX_FAILED else None
    return [table(("not decoded", "why"), rows), more]


def _per_class_table(evaluation: dict[str, Any]) -> list[str | None]:
    """Return a table with a row for each output or class, or for the worst classes if there are many."""
    rows, outputs = evaluation.get("per_class") or [], evaluation.get("per_output") or []
    if outputs:
        cells = [
            (escape_markdown(row["name"]), *(_format_score(row[key]) for key in ("mae", "rmse", "r2", "pearson")))
            for row in outputs
        ]
        return [table(("output", "mean absolute error", "RMSE", "R2", "Pearson"), cells[:_MAX_CLASSES])]
    if not rows:
        return []
    score = "accuracy" if "accuracy" in rows[0] else "average_precision"
    shows_all = len(rows) <= _MAX_CLASSES
    shown = rows if shows_all else sorted(rows, key=lambda row: row[score])[:_MAX_CLASSES]
    lead_in = None if shows_all else f"The {_MAX_CLASSES} classes of {len(rows)} that it knows least:"
    if score == "accuracy":
        head, last = ("accuracy", "most often taken for"), lambda row: escape_markdown(row.get("mistaken_for") or "")
    else:
        head, last = ("average precision", "F1 at 0.5"), lambda row: _format_score(row.get("f1"))
    cells = [(escape_markdown(row["name"]), row["videos"], _format_score(row[score]), last(row)) for row in shown]
    return [lead_in, table(("class", "videos", *head), cells)]


def _format_score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def compare_with_paper(metadata: RunMetadata) -> str | None:
    """Return a line for a run of a recipe with a published number that was tested in the same way, else None."""
    evaluation, recipe = metadata.evaluation, recipe_name(metadata.run)
    paper_result = PAPER_RESULTS.get(recipe or "")
    if evaluation is None or paper_result is None:
        return None
    if not _is_comparable_to_paper(metadata.run, evaluation, paper_result):
        return None
    top5 = "" if paper_result.top5 is None else f" / {paper_result.top5} top-5"
    measured = " / ".join(
        f"{100 * evaluation['metrics'][key]:.1f} {name}"
        for key, name in (("top1", "top-1"), ("top5", "top-5"))
        if evaluation["metrics"].get(key) is not None and (key == "top1" or paper_result.top5 is not None)
    )
    return (
        f"The recipe {code_span(recipe)} is published with {paper_result.top1} top-1{top5} on {paper_result.data}, "
        f"{paper_result.views} views ({paper_result.source}). Measured here: {measured}, "
        f"{format_views(evaluation)} views, {evaluation['counts']['videos']} videos. "
        "The two mean the same only where the data do."
    )


def _is_comparable_to_paper(run: dict[str, Any], evaluation: dict[str, Any], paper_result: PaperResult) -> bool:
    return (
        run.get("status") == "finished"
        and evaluation["metrics"].get("top1") is not None
        and evaluation["data"].get("classes") == paper_result.classes
        and format_views(evaluation) == paper_result.views
        and evaluation["views"].get("sampling") == run.get("recipe", {}).get("sampling")
        and not set(run.get("recipe_flags") or ()) - _OVERRIDABLE_FIELDS - NON_NUMERIC_FLAGS
    )


def recipe_name(run: dict[str, Any]) -> str | None:
    """Return the name of a run's recipe without folder and ending; None: the run has no recipe."""
    name = run.get("recipe_name")
    return name.split("/")[-1].removesuffix(".yaml") if name else None


def describe_weakest_class(evaluation: dict[str, Any] | None) -> str | None:
    """Return a sentence that compares the best and the worst class; None if they do not differ."""
    rows = [row for row in (evaluation or {}).get("per_class") or [] if "accuracy" in row]
    if len(rows) < 2:
        return None
    worst, best = (pick(rows, key=lambda row: row["accuracy"]) for pick in (min, max))
    if worst["accuracy"] == best["accuracy"]:
        return None
    return (
        f"Classes differ: {code_span(best['name'])} is right for {best['accuracy']:.0%} of its {best['videos']} "
        f"test videos, {code_span(worst['name'])} for {worst['accuracy']:.0%} of {worst['videos']}."
    )

"""Render the model card of a training run from what its files say.

The same metadata gives the same card. What was not measured is not in it.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..run_files import LOSS_CURVE_FILE
from . import code_span, escape_markdown, snippets
from .card_check import CARD_LIBRARY, CARD_TAGS, check_card, pipeline_tag
from .evaluation_section import (
    build_eval_results,
    compare_with_paper,
    describe_weakest_class,
    format_views,
    recipe_name,
    render_evaluation,
)
from .header import license_header_fields, to_yaml
from .lineage import MOTION
from .markdown import CardError, code_block, details_block, join_card, section, table, with_checksum, write_readme
from .run_metadata import RunMetadata, read_run_metadata
from .snippets import CLASSIFIER_CLASS, PRETRAINING_CLASS

_MAX_CLASSES, _MAX_REASONS = 20, 5
_PUBLISHING_FIELDS = ("push_to_hub", "hub_model_id", "hub_strategy", "hub_private")
_HIDDEN_RECIPE_FIELDS = ("output_dir", "overwrite", "resume", "stop_at_step", "report_to", *_PUBLISHING_FIELDS)


def write_card(
    folder: str | Path, *, model_id: str | None = None, license: str | None = None, overwrite: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """Write the card of a run into its folder.

    Args:
        folder: the run's `--output_dir`.
        model_id: where the model is or will be published.
        license: of the model, if its parents leave that open.
        overwrite: also replace a README.md that was not written by this function, or was edited since.

    Returns:
        The file, and notes on what was left out.

    Raises:
        CardError: when there is no run, a README.md is in the way, or the card would not pass `check_card`.
        LicenseError: when the parents forbid that license.
    """
    metadata = read_run_metadata(folder, model_id=model_id, license=license)
    text = render_run_card(metadata)
    problems = check_card(text, folder)
    if problems:
        raise CardError(f"the card of {folder} would not be accepted: {'; '.join(problems)}")
    path = write_readme(folder, text, overwrite=overwrite)
    if metadata.license.name is None:
        return path, (*metadata.notes, f"{metadata.license.reason} --license NAME states one")
    return path, metadata.notes


def render_run_card(metadata: RunMetadata) -> str:
    """Return the card of a run, as Markdown with a YAML header."""
    name = metadata.model_id.split("/")[-1]
    text = join_card(
        _render_header(metadata, name),
        [
            f"# {name}",
            _introduction_sentence(metadata),
            _status_warning(metadata),
            section("Use", *_usage_section(metadata)),
            section("Training data", *_training_data_section(metadata)),
            section("Training", *_training_section(metadata)),
            section("Hardware and cost", _hardware_sentence(metadata.run)),
            section("Loss", *_loss_section(metadata)),
            section("Reconstruction", *_reconstruction_section(metadata)),
            section("Evaluation", render_evaluation(metadata)),
            section("Compared with the paper", compare_with_paper(metadata)),
            section("Limits and biases", _limits_section(metadata)),
            section("License", metadata.license.reason, _lineage_table(metadata)),
            section("Citation", code_block(snippets.CITE_V1, "bibtex")),
            section("Versions", _versions_sentence(metadata.run)),
        ],
    )
    return with_checksum(text)


def _architecture(metadata: RunMetadata) -> str:
    """Return the class of the model: that of the task, or, for other heads, the one that the saved model states."""
    known = {"finetune": CLASSIFIER_CLASS, "pretrain": PRETRAINING_CLASS}
    names = (metadata.config or {}).get("architectures") or [""]
    saved = names[0] if str(names[0]).isidentifier() else "VideoMAEModel"
    return known.get(metadata.run.get("task", "pretrain"), saved)


def _is_classifier(metadata: RunMetadata) -> bool:
    return _architecture(metadata) == CLASSIFIER_CLASS


# The header.


def _render_header(metadata: RunMetadata, name: str) -> str:
    results = build_eval_results(metadata)
    return to_yaml(
        **license_header_fields(metadata.license.name),
        library_name=CARD_LIBRARY,
        pipeline_tag=pipeline_tag(_architecture(metadata)),
        tags=list(CARD_TAGS),
        base_model=metadata.base_model,
        # The Hub's word for further training of any kind.
        base_model_relation="finetune" if metadata.base_model else None,
        datasets=[data.hub_id for data in metadata.datasets if data.hub_id],
        metrics=sorted({result.metric_type for result in results}),
        model_name=name if results else None,
        eval_results=results,
        widget=[
            {
                "src": example.src,
                "example_title": Path(example.src).stem,
                "output": [
                    {"label": answer["label"], "score": round(answer["score"], 4)} for answer in example.output
                ],
            }
            for example in metadata.examples
        ],
    )


# The text.


def _introduction_sentence(metadata: RunMetadata) -> str:
    config = metadata.config or {}
    size = ""
    if config:
        count = "" if metadata.parameters is None else f", {metadata.parameters / 1e6:.2f} million parameters"
        size = f" ({config['num_hidden_layers']} layers {config['hidden_size']} wide{count})"
    parent = next((ancestor.name for ancestor in metadata.lineage if not ancestor.is_data), None)
    data = _describe_datasets(metadata)
    if _is_classifier(metadata):
        origin = f"fine-tuned from {code_span(parent)}" if parent else "trained from scratch"
        return f"A VideoMAE that {_describe_task(metadata)}{size}, {origin} on {data}."
    if _architecture(metadata) != PRETRAINING_CLASS:
        does = escape_markdown(str(metadata.run.get("does") or f"was trained for {metadata.run['task']}"))
        return f"A VideoMAE that {does}{size}, trained{f' from {code_span(parent)}' if parent else ''} on {data}."
    origin = f", going on from {code_span(parent)}," if parent else ""
    return f"A VideoMAE{size} pre-trained{origin} on {data}: it learns to reconstruct the hidden parts of a video."


def _describe_task(metadata: RunMetadata) -> str:
    count = len((metadata.config or {}).get("id2label", {})) or len(metadata.run.get("data", {}).get("classes") or ())
    problem_type = _problem_type(metadata)
    if problem_type == "regression":
        return "gives a video a number" if count == 1 else f"gives a video {count} numbers"
    if problem_type == "multi_label_classification":
        return f"says which of {count} classes a video has"
    return f"puts a video into one of {count} classes"


def _problem_type(metadata: RunMetadata) -> str:
    return str((metadata.config or {}).get("problem_type") or metadata.run.get("recipe", {}).get("problem_type"))


def _describe_datasets(metadata: RunMetadata) -> str:
    data = metadata.run.get("data", {})
    mix_names = [part.get("dataset") for part in data.get("mix") or ()]
    names = [code_span(ancestor.name) for ancestor in metadata.datasets]
    if MOTION in (data.get("dataset"), *mix_names):
        names.append("the built-in motion videos of hf_videomae")
    return " and ".join(names) or "videos"


def _status_warning(metadata: RunMetadata) -> str | None:
    status, total = metadata.run.get("status"), metadata.run.get("total_steps")
    if status == "finished":
        return None
    if status == "running":
        return f"**The run goes on: step {metadata.step or 0} of {total}.** What is here is not the final model."
    ending = "failed" if status == "failed" else "was stopped"
    return f"**The run {ending}**, at step {metadata.run.get('steps')} of {total}."


def _usage_section(metadata: RunMetadata) -> list[str | None]:
    if metadata.config is None:
        return []
    views = "1x1" if metadata.evaluation is None else format_views(metadata.evaluation)
    values = {"model_id": metadata.model_id, "views": views, "frames": metadata.config["num_frames"]}
    values["architecture"] = architecture = _architecture(metadata)
    if _is_classifier(metadata):
        ours = snippets.REGRESS_WITH_OURS if _problem_type(metadata) == "regression" else snippets.CLASSIFY_WITH_OURS
        stock, after = snippets.CLASSIFY_WITH_STOCK, [_stock_frames_note(metadata.config)]
        if snippets.HANDLER_FILE in metadata.files:
            after.append(snippets.ENDPOINT_NOTE)
    elif architecture != PRETRAINING_CLASS:
        stock, ours, after = snippets.FEATURES_WITH_STOCK, snippets.CALL_WITH_OURS, []
    else:
        stock, ours = snippets.FEATURES_WITH_STOCK, snippets.FEATURES_WITH_OURS
        reconstruct = snippets.RECONSTRUCT_WITH_OURS.format(**values)
        after = [code_block(reconstruct), snippets.PRETRAINED_ONLY_NOTE.format(**values)]
    return [
        "With stock transformers, without hf_videomae:",
        code_block(stock.format(**values)),
        "With hf_videomae, which takes the frames as in training:",
        code_block(ours.format(**values)),
        *after,
        snippets.NO_WIDGET_NOTE,
    ]


def _stock_frames_note(config: dict[str, Any]) -> str:
    return (
        f"Which {config['num_frames']} frames the stock pipeline takes depends on its release (the first ones in a "
        f"row, or some over the whole video), so its answers differ from those of hf_videomae; a video needs at least "
        f"{config['num_frames']} frames there."
    )


def _training_data_section(metadata: RunMetadata) -> list[str | None]:
    run, data, names = metadata.run, metadata.run.get("data", {}), _describe_datasets(metadata)
    count = "" if data.get("videos") is None else f", {data['videos']} videos"
    sentences = [f"{names[0].upper()}{names[1:]}, split {code_span(data.get('split'))}{count}."]
    if run.get("clips") is not None:
        sentences.append(f"Training saw {run['clips']} clips of them.")
    bad_videos = run.get("bad_videos")
    if bad_videos == 1:
        sentences.append("1 video could not be decoded and was replaced by another.")
    elif bad_videos:
        sentences.append(f"{bad_videos} videos could not be decoded and were replaced by others.")
    reasons = Counter(str(line.get("reason")) for line in metadata.bad_videos).most_common(_MAX_REASONS)
    classes, classes_sentence = data.get("classes"), None
    if classes and len(classes) <= _MAX_CLASSES:
        classes_sentence = f"Classes: {', '.join(map(code_span, classes))}."
    elif classes:
        classes_sentence = f"{len(classes)} classes; their names are in `config.json`."
    return [
        " ".join(sentences),
        table(("why not decoded", "videos"), [(escape_markdown(reason), count) for reason, count in reasons]),
        classes_sentence,
    ]


def _training_section(metadata: RunMetadata) -> list[str | None]:
    run, best = metadata.run, metadata.run.get("best_validation")
    validation = None
    if best:
        validation = (
            f"The best validation while training was after step {best['step']}: top-1 {best['top1']:.4f}. "
            "What is here is the last step."
        )
    return [
        _recipe_sentence(run),
        code_block(run["command"], "bash") if run.get("command") else None,
        _schedule_sentence(run),
        validation,
        _settings_block(run.get("recipe", {})),
    ]


def _settings_block(recipe: dict[str, Any]) -> str | None:
    shown = {name: value for name, value in recipe.items() if name not in _HIDDEN_RECIPE_FIELDS}
    rows = [(code_span(name), code_span(json.dumps(value))) for name, value in shown.items() if value is not None]
    unset = ", ".join(code_span(name) for name, value in shown.items() if value is None)
    if not rows:
        return None
    unset_sentence = f"Not set, or none: {unset}." if unset else None
    return details_block("All settings", table(("setting", "value"), rows), unset_sentence)


def _recipe_sentence(run: dict[str, Any]) -> str | None:
    name = recipe_name(run)
    if name is None:
        return None
    flags = ", ".join(code_span(f"--{flag}") for flag in run.get("recipe_flags") or ())
    return f"The recipe {code_span(name)}{f', and from the command line {flags}' if flags else ''}:"


def _schedule_sentence(run: dict[str, Any]) -> str | None:
    if run.get("steps") is None:
        return None
    clips = f" of {run['clips'] // run['steps']} clips" if run.get("clips") and run["steps"] else ""
    rate = f", learning rate up to {run['learning_rate']:.4g}" if run.get("learning_rate") is not None else ""
    skipped = run.get("skipped_steps")
    skipped_sentence = f" {skipped} steps had a loss that was not finite and were not applied." if skipped else ""
    return f"{run['steps']} steps{clips}{rate}.{skipped_sentence}"


def _hardware_sentence(run: dict[str, Any]) -> str | None:
    machine, seconds = run.get("hardware"), run.get("seconds")
    if not machine or seconds is None:
        return None
    processes = machine.get("processes", 1)
    if "gpu" in machine:
        device, hours = f"{processes} x {machine['gpu']}", f", {processes * seconds / 3600:.2f} GPU hours"
    else:
        count = "1 process" if processes == 1 else f"{processes} processes"
        device, hours = f"CPU ({machine.get('cpu')}, {machine.get('cpu_cores')} cores), {count}", ""
    speed = f", {run['clips'] / seconds:.1f} clips/s over all" if run.get("clips") and seconds else ""
    return f"{device}: {_format_duration(seconds)}{hours}{speed}."


def _format_duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _loss_section(metadata: RunMetadata) -> list[str | None]:
    run, losses = metadata.run, [line for line in metadata.metrics if line.get("loss") is not None]
    text = None
    if losses and run.get("loss") is not None:
        first = losses[0]
        text = f"From {first['loss']:.4f} (step {first['step']}) to {run['loss']:.4f}."
        if run.get("baseline") is not None:
            text += f" The simplest answer, to {run['baseline_is']}, has {run['baseline']:.4f}."
    return [text, f"![Loss over the steps]({LOSS_CURVE_FILE})" if LOSS_CURVE_FILE in metadata.files else None]


def _reconstruction_section(metadata: RunMetadata) -> list[str | None]:
    pictures = sorted(name for name in metadata.files if name.startswith("reconstruction-"))
    animations = [name for name in pictures if name.endswith(".gif")] or pictures
    if not animations:
        return []
    return [
        "Clips of the last training batch: original, hidden, predicted, and painted with the brightness of the "
        "visible cubes and of the ground truth, as the picture says.",
        *(f"![Reconstruction]({name})" for name in animations),
    ]


def _lineage_table(metadata: RunMetadata) -> str | None:
    """Return a table of the checkpoints and the data that the model was made of."""
    rows = [
        (
            code_span(ancestor.name),
            "data" if ancestor.is_data else "checkpoint",
            code_span(ancestor.revision) if ancestor.revision else "",
            escape_markdown(ancestor.license or "not known"),
        )
        for ancestor in metadata.lineage
    ]
    return table(("made of", "what it is", "commit on the Hub", "license"), rows)


def _limits_section(metadata: RunMetadata) -> str:
    lines = []
    if _architecture(metadata) == PRETRAINING_CLASS:
        lines.append("It was trained to reconstruct. How good its features are for any task was not measured here.")
    elif _problem_type(metadata) == "regression":
        lines.append("It gives a number for any video, also for one that shows nothing of what it was trained on.")
    elif _is_classifier(metadata):
        lines.append("It answers with its own classes whatever a video shows; there is no answer for anything else.")
    if _architecture(metadata) != PRETRAINING_CLASS and metadata.evaluation is None:
        lines.append("Its accuracy was not measured.")
    weakest_class = describe_weakest_class(metadata.evaluation)
    if weakest_class:
        lines.append(weakest_class)
    if metadata.config:
        side = metadata.config["image_size"]
        size = "x".join(map(str, side if isinstance(side, list) else [side, side]))
        lines.append(
            f"One view is {metadata.config['num_frames']} frames of {size} pixels: what lies between them, or is "
            "smaller, it does not see. It has no sound."
        )
    lines.append(
        "It carries over how its videos were chosen, filmed and labelled. How it does on other data, or for different "
        "groups of people, was not measured: measure it on yours before anything depends on it."
    )
    return "\n".join(f"- {line}" for line in lines)


def _versions_sentence(run: dict[str, Any]) -> str | None:
    versions = run.get("versions")
    return ", ".join(f"{name} {version}" for name, version in versions.items()) + "." if versions else None

"""The model card of a training run: a pure function of its facts. What was not measured has no place in it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..cards import code_span, plain
from ..cards.document import CardError, signed, write_card_file
from ..cards.header import licence_fields, to_yaml
from ..training.report import PICTURE_FILE
from . import parts
from .facts import MOTION, RunFacts, read_run
from .header import LIBRARY, TAGS, check_card, pipeline_tag
from .measured import comparison, evaluation, evaluation_results, recipe_name, views_of, weakest
from .parts import CLASSIFIER, PRETRAINED, section, table

_SHOWN_CLASSES, _SHOWN_REASONS = 20, 5
_PUBLISHING = ("push_to_hub", "hub_model_id", "hub_strategy", "hub_private")
_HIDDEN_SETTINGS = ("output_dir", "overwrite", "resume", "stop_at_step", "report_to", *_PUBLISHING)


def write_card(
    folder: str | Path, *, model_id: str | None = None, licence: str | None = None, overwrite: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """Render the card of a run into its folder.

    Args:
        folder: the run's `--output_dir`.
        model_id: where the model is or will be published.
        licence: of the model, as far as its parents leave that open.
        overwrite: also a README.md that was not written by this function, or was edited since.

    Returns:
        The file, and notes on what was left out.

    Raises:
        CardError: when there is no run, a README.md is in the way, or the card would not pass `check_card`.
        LicenceError: when the parents forbid that licence.
    """
    facts = read_run(folder, model_id=model_id, licence=licence)
    text = render_run_card(facts)
    problems = check_card(text, folder)
    if problems:
        raise CardError(f"the card of {folder} would not be accepted: {'; '.join(problems)}")
    path = write_card_file(folder, text, overwrite=overwrite)
    if facts.licence.name is None:
        return path, (*facts.notes, f"{facts.licence.reason} --license NAME states one")
    return path, facts.notes


def render_run_card(facts: RunFacts) -> str:
    """The card of a run, as Markdown with a YAML header: the same facts give the same text."""
    name = facts.model_id.split("/")[-1]
    text = parts.document(
        _header(facts, name),
        [
            f"# {name}",
            _introduction(facts),
            _unfinished(facts),
            section("Use", *_use(facts)),
            section("Training data", *_data(facts)),
            section("Training", *_training(facts)),
            section("Hardware and cost", _cost(facts.run)),
            section("Loss", *_loss(facts)),
            section("Reconstruction", *_reconstruction(facts)),
            section("Evaluation", *evaluation(facts)),
            section("Compared with the paper", comparison(facts)),
            section("Limits and biases", _limits(facts)),
            section("Licence", facts.licence.reason, _made_of(facts)),
            section("Citation", parts.code(parts.CITE_V1, "bibtex")),
            section("Versions", _versions(facts.run)),
        ],
    )
    return signed(text)


def _architecture(facts: RunFacts) -> str:
    return CLASSIFIER if facts.run.get("task") == "finetune" else PRETRAINED


def _is_classifier(facts: RunFacts) -> bool:
    return _architecture(facts) == CLASSIFIER


# The header.


def _header(facts: RunFacts, name: str) -> str:
    results = evaluation_results(facts)
    return to_yaml(
        **licence_fields(facts.licence.name),
        library_name=LIBRARY,
        pipeline_tag=pipeline_tag(_architecture(facts)),
        tags=list(TAGS),
        base_model=facts.base_model,
        # The Hub's word for further training of any kind.
        base_model_relation="finetune" if facts.base_model else None,
        datasets=[data.hub_id for data in facts.datasets if data.hub_id],
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
            for example in facts.examples
        ],
    )


# The text.


def _introduction(facts: RunFacts) -> str:
    config = facts.config or {}
    size = ""
    if config:
        count = "" if facts.parameters is None else f", {facts.parameters / 1e6:.2f} million parameters"
        size = f" ({config['num_hidden_layers']} layers {config['hidden_size']} wide{count})"
    parent = next((origin.name for origin in facts.origins if not origin.is_data), None)
    data = _data_name(facts)
    if _is_classifier(facts):
        how = f"fine-tuned from {code_span(parent)}" if parent else "trained from scratch"
        return f"A VideoMAE that {_answers(facts)}{size}, {how} on {data}."
    how = f", going on from {code_span(parent)}," if parent else ""
    return f"A VideoMAE{size} pre-trained{how} on {data}: it learns to reconstruct the hidden parts of a video."


def _answers(facts: RunFacts) -> str:
    count = len((facts.config or {}).get("id2label", {})) or len(facts.run.get("data", {}).get("classes") or ())
    kind = _problem(facts)
    if kind == "regression":
        return "gives a video a number" if count == 1 else f"gives a video {count} numbers"
    if kind == "multi_label_classification":
        return f"says which of {count} classes a video has"
    return f"puts a video into one of {count} classes"


def _problem(facts: RunFacts) -> str:
    return str((facts.config or {}).get("problem_type") or facts.run.get("recipe", {}).get("problem_type"))


def _data_name(facts: RunFacts) -> str:
    data = facts.run.get("data", {})
    mixed = [part.get("dataset") for part in data.get("mix") or ()]
    names = [code_span(origin.name) for origin in facts.datasets]
    if MOTION in (data.get("dataset"), *mixed):
        names.append("the built-in motion videos of hf_videomae")
    return " and ".join(names) or "videos"


def _unfinished(facts: RunFacts) -> str | None:
    status, total = facts.run.get("status"), facts.run.get("total_steps")
    if status == "finished":
        return None
    if status == "running":
        return f"**The run goes on: step {facts.step or 0} of {total}.** What is here is not the final model."
    ended = "failed" if status == "failed" else "was stopped"
    return f"**The run {ended}**, at step {facts.run.get('steps')} of {total}."


def _use(facts: RunFacts) -> list[str | None]:
    if facts.config is None:
        return []
    if not _is_classifier(facts):
        texts = [parts.FEATURES_WITH_STOCK.format(frames=facts.config["num_frames"]), parts.FEATURES_WITH_OURS]
        after = [parts.code(parts.RECONSTRUCT_WITH_OURS), parts.PRETRAINED_ONLY]
    else:
        views = "1x1" if facts.evaluation is None else views_of(facts.evaluation)
        ours = parts.REGRESS_WITH_OURS if _problem(facts) == "regression" else parts.CLASSIFY_WITH_OURS
        texts, after = [parts.CLASSIFY_WITH_STOCK, ours.format(views=views)], [_frames_note(facts.config)]
    stock, ours = (parts.code(parts.with_model(text, facts.model_id)) for text in texts)
    return [
        "With stock transformers, without hf_videomae:",
        stock,
        "With hf_videomae, which takes the frames as in training:",
        ours,
        *(parts.with_model(text, facts.model_id) for text in after),
        parts.SERVED if parts.HANDLER_FILE in facts.files and _is_classifier(facts) else None,
        parts.NO_WIDGET,
    ]


def _frames_note(config: dict[str, Any]) -> str:
    return (
        f"Which {config['num_frames']} frames the stock pipeline takes depends on its release (the first ones in a "
        f"row, or some over the whole video), so its answers differ from those of hf_videomae; a video needs at least "
        f"{config['num_frames']} frames there."
    )


def _data(facts: RunFacts) -> list[str | None]:
    data, run = facts.run.get("data", {}), facts.run
    videos = data.get("videos")
    count = "" if videos is None else f", {videos} videos"
    lines = [f"{_data_name(facts)[0].upper()}{_data_name(facts)[1:]}, split {code_span(data.get('split'))}{count}."]
    if run.get("clips") is not None:
        lines.append(f"Training saw {run['clips']} clips of them.")
    if run.get("bad_videos"):
        lines.append(_replaced(run["bad_videos"]))
    classes = data.get("classes")
    shown = None
    if classes and len(classes) <= _SHOWN_CLASSES:
        shown = f"Classes: {', '.join(map(code_span, classes))}."
    elif classes:
        shown = f"{len(classes)} classes; their names are in `config.json`."
    return [
        " ".join(lines),
        table(("why not decoded", "videos"), [(plain(why), count) for why, count in _reasons(facts)]),
        shown,
    ]


def _replaced(count: int) -> str:
    if count == 1:
        return "1 video could not be decoded and was replaced by another."
    return f"{count} videos could not be decoded and were replaced by others."


def _reasons(facts: RunFacts) -> list[tuple[str, int]]:
    return Counter(str(line.get("reason")) for line in facts.bad_videos).most_common(_SHOWN_REASONS)


def _training(facts: RunFacts) -> list[str | None]:
    run, recipe = facts.run, facts.run.get("recipe", {})
    settings = {name: value for name, value in recipe.items() if name not in _HIDDEN_SETTINGS}
    best = run.get("best_validation")
    validation = None
    if best:
        validation = (
            f"The best validation while training was after step {best['step']}: top-1 {best['top1']:.4f}. "
            "What is here is the last step."
        )
    rows = [(code_span(name), code_span(json.dumps(value))) for name, value in settings.items() if value is not None]
    unset = ", ".join(code_span(name) for name, value in settings.items() if value is None)
    listed = table(("setting", "value"), rows)
    return [
        _recipe(run),
        parts.code(run["command"], "bash") if run.get("command") else None,
        _schedule(run),
        validation,
        parts.folded("All settings", listed, f"Not set, or none: {unset}." if unset else None) if listed else None,
    ]


def _recipe(run: dict[str, Any]) -> str | None:
    name = recipe_name(run)
    if name is None:
        return None
    flags = ", ".join(code_span(f"--{flag}") for flag in run.get("recipe_flags") or ())
    return f"The recipe {code_span(name)}{f', and from the command line {flags}' if flags else ''}:"


def _schedule(run: dict[str, Any]) -> str | None:
    if run.get("steps") is None:
        return None
    clips = f" of {run['clips'] // run['steps']} clips" if run.get("clips") and run["steps"] else ""
    rate = f", learning rate up to {run['learning_rate']:.4g}" if run.get("learning_rate") is not None else ""
    skipped = run.get("skipped_steps")
    lost = f" {skipped} steps had a loss that was not finite and were not applied." if skipped else ""
    return f"{run['steps']} steps{clips}{rate}.{lost}"


def _cost(run: dict[str, Any]) -> str | None:
    where, seconds = run.get("hardware"), run.get("seconds")
    if not where or seconds is None:
        return None
    processes = where.get("processes", 1)
    if "gpu" in where:
        device, hours = f"{processes} x {where['gpu']}", f", {processes * seconds / 3600:.2f} GPU hours"
    else:
        count = "1 process" if processes == 1 else f"{processes} processes"
        device, hours = f"CPU ({where.get('cpu')}, {where.get('cpu_cores')} cores), {count}", ""
    speed = f", {run['clips'] / seconds:.1f} clips/s over all" if run.get("clips") and seconds else ""
    return f"{device}: {_duration(seconds)}{hours}{speed}."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _loss(facts: RunFacts) -> list[str | None]:
    run, losses = facts.run, [line for line in facts.metrics if line.get("loss") is not None]
    text = None
    if losses and run.get("loss") is not None:
        first = losses[0]
        text = f"From {first['loss']:.4f} (step {first['step']}) to {run['loss']:.4f}."
        if run.get("baseline") is not None:
            text += f" The simplest answer, to {run['baseline_is']}, has {run['baseline']:.4f}."
    return [text, f"![Loss over the steps]({PICTURE_FILE})" if PICTURE_FILE in facts.files else None]


def _reconstruction(facts: RunFacts) -> list[str | None]:
    pictures = sorted(name for name in facts.files if name.startswith("reconstruction-"))
    moving = [name for name in pictures if name.endswith(".gif")] or pictures
    if not moving:
        return []
    return [
        "Clips of the last training batch: original, hidden, predicted, and painted with the brightness of the "
        "visible cubes and of the ground truth, as the picture says.",
        *(f"![Reconstruction]({name})" for name in moving),
    ]


def _made_of(facts: RunFacts) -> str | None:
    """The checkpoints and the data, each with its commit and licence."""
    rows = [
        (
            code_span(origin.name),
            "data" if origin.is_data else "checkpoint",
            code_span(origin.revision) if origin.revision else "",
            plain(origin.licence or "not known"),
        )
        for origin in facts.origins
    ]
    return table(("made of", "what it is", "commit on the Hub", "licence"), rows)


def _limits(facts: RunFacts) -> str:
    lines = []
    if not _is_classifier(facts):
        lines.append("It was trained to reconstruct. How good its features are for any task was not measured here.")
    elif _problem(facts) == "regression":
        lines.append("It gives a number for any video, also for one that shows nothing of what it was trained on.")
    else:
        lines.append("It answers with its own classes whatever a video shows; there is no answer for anything else.")
    if _is_classifier(facts) and facts.evaluation is None:
        lines.append("Its accuracy was not measured.")
    worst = weakest(facts.evaluation)
    if worst:
        lines.append(worst)
    if facts.config:
        height = facts.config["image_size"]
        size = "x".join(map(str, height)) if isinstance(height, list) else f"{height}x{height}"
        lines.append(
            f"One view is {facts.config['num_frames']} frames of {size} pixels: what lies between them, or is "
            "smaller, it does not see. It has no sound."
        )
    lines.append(
        "It carries over how its videos were chosen, filmed and labelled. How it does on other data, or for different "
        "groups of people, was not measured: measure it on yours before anything depends on it."
    )
    return "\n".join(f"- {line}" for line in lines)


def _versions(run: dict[str, Any]) -> str | None:
    found = run.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in found.items()) + "." if found else None

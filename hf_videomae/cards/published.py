"""Cards of the published VideoMAE checkpoints: one YAML of facts each, a source for every number, and its text.

    python -m hf_videomae.cards.published model_cards     # what `make cards` runs

Nothing is downloaded. What the authors, the paper or others published is marked as such: none of it was measured here.
"""

import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ..configuration_videomae import PRESETS, VideoMAEConfig
from ..run_files import write_atomic
from . import CardError, snippets, to_yaml
from .card_check import CARD_LIBRARY, CARD_TAGS, pipeline_tag
from .known_issues import load_known_issues
from .snippets import CLASSIFIER_CLASS, PRETRAINING_CLASS, section, table

INDEX_FILE = "README.md"

_Entry = TypeVar("_Entry")


@dataclass(frozen=True, kw_only=True)
class NumberSource:
    """Where a number comes from."""

    text: str
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class SourcedNumber:
    """A number and its source, and what it is a number of."""

    value: float
    source: str
    of: str = ""


@dataclass(frozen=True, kw_only=True)
class _DataEntry:
    """What is said of a data set, with its source."""

    data: str
    source: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingStage(_DataEntry):
    """A stage of the training: on what, for how long, with which of our recipes."""

    stage: str
    epochs: int | None = None
    recipe: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedMetric(_DataEntry):
    """A published result in percent; `after` says what was done to the checkpoint before it was measured."""

    metric: str
    value: float
    views: str = ""
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """A YAML file of `model_cards/`.

    Attributes:
        name: of the file, without its ending.
        title: in words.
        hub_id: repository of the Hub that holds it; None: an original file alone.
        file: the original file, where it has to be converted.
        version: 1 or 2.
        preset: its size, a preset of `VideoMAEConfig`.
        classifier: whether it has a classifier.
        license: as the Hub spells it, with `license_source`.
        numbers: size and cost.
        training: in its order.
        results: published ones.
        problems: keys of `load_known_issues`.
        sampling: of the frames in its published test, dense or uniform.
        heads: the number of attention heads, where the published configuration has a wrong one.
        sources: key -> where numbers come from.
    """

    name: str
    title: str
    version: int
    preset: str
    classifier: bool
    license: str
    license_source: str
    sources: dict[str, NumberSource]
    hub_id: str | None = None
    file: str | None = None
    sampling: str = "dense"
    heads: SourcedNumber | None = None
    numbers: list[SourcedNumber] = field(default_factory=list)
    training: list[TrainingStage] = field(default_factory=list)
    results: list[PublishedMetric] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_checkpoint_facts(path: str | Path) -> CheckpointFacts:
    """Read a YAML of facts.

    Raises:
        CardError: for a key that does not exist or is missing, a number without a source, or a name of nothing.
    """
    import yaml

    path = Path(path)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise CardError(f"{path} is no mapping; see the other files of its folder")
    _check_sources(values, path)
    sources = {key: _parse_entry(NumberSource, value, path) for key, value in (values.get("sources") or {}).items()}
    lists = {"numbers": SourcedNumber, "training": TrainingStage, "results": PublishedMetric}
    parsed: dict[str, Any] = {
        key: [_parse_entry(kind, value, path) for value in values.get(key) or []] for key, kind in lists.items()
    }
    heads = None if values.get("heads") is None else _parse_entry(SourcedNumber, values["heads"], path)
    facts = _parse_entry(CheckpointFacts, {**values, **parsed, "sources": sources, "heads": heads}, path)
    _check_names(facts, path)
    return facts


def _parse_entry(kind: type[_Entry], values: Any, path: Path) -> _Entry:
    """A dataclass of a mapping that has its keys and no other."""
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise CardError(f"{path}: {values!r} is no mapping of {', '.join(known)}")
    unknown = [key for key in values if key not in known]
    if unknown:
        raise CardError(f"{path}: unknown key {unknown[0]!r}; {kind.__name__} has {', '.join(known)}")
    required = [key for key, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    missing = [key for key in required if key not in values]
    if missing:
        raise CardError(f"{path}: {kind.__name__} {values} lacks {', '.join(missing)}")
    return kind(**values)


def _check_sources(values: dict[str, Any], path: Path) -> None:
    """Every number stands in a mapping with a `source`, and that is one of `sources`. `version` is a name."""
    known = values.get("sources") or {}

    def walk(value: Any, place: str) -> None:
        if isinstance(value, list):
            for number, entry in enumerate(value):
                walk(entry, f"{place}[{number}]")
        if not isinstance(value, dict):
            return
        for key, entry in value.items():
            is_number = isinstance(entry, (int, float)) and not isinstance(entry, bool)
            if is_number and "source" not in value and (place, key) != ("", "version"):
                raise CardError(f"{path}: {place}.{key} is {entry} without a source")
            if key == "source" and entry not in known:
                raise CardError(f"{path}: {place} has the source {entry!r}, which is not among `sources`")
            walk(entry, f"{place}.{key}" if place else str(key))

    walk(values, "")


def _check_names(facts: CheckpointFacts, path: Path) -> None:
    if facts.name != path.stem:
        raise CardError(f"{path}: its name is {facts.name}; it must be the file's, {path.stem}")
    if facts.preset not in PRESETS:
        raise CardError(f"{path}: there is no preset {facts.preset}; give one of {', '.join(PRESETS)}")
    if facts.sampling not in ("dense", "uniform"):
        raise CardError(f"{path}: sampling is {facts.sampling}; give dense or uniform")
    if facts.hub_id is None and facts.file is None:
        raise CardError(f"{path}: give hub_id, file, or both")
    unknown = [name for name in facts.problems if name not in load_known_issues()]
    if unknown:
        raise CardError(f"{path}: there is no problem {unknown[0]!r}; give some of {', '.join(load_known_issues())}")


def render_checkpoint_card(facts: CheckpointFacts) -> str:
    """The card of a published checkpoint, as Markdown with a YAML header."""
    return snippets.join_card(
        _render_header(facts),
        [
            f"# {facts.name}",
            _introduction_sentence(facts),
            section("Use", *_usage_section(facts)),
            section("Known problems", *_known_issue_lines(facts)),
            section("How it was trained", _training_table(facts)),
            section("Published results", *_results_section(facts)),
            section("Limits and biases", _limits_section(facts)),
            section("License", f"`{facts.license}` ({facts.license_source}): {_NON_COMMERCIAL_NOTE}"),
            section("Citation", *(snippets.code_block(text, "bibtex") for text in _bibtex_entries(facts))),
            section("Sources", _source_lines(facts)),
        ],
    )


_NON_COMMERCIAL_NOTE = "no commercial use, and so it is for whatever is fine-tuned or converted from it."


def _architecture(facts: CheckpointFacts) -> str:
    return CLASSIFIER_CLASS if facts.classifier else PRETRAINING_CLASS


def _render_header(facts: CheckpointFacts) -> str:
    from huggingface_hub import EvalResult

    metrics = {"top-1": "accuracy", "top-5": "accuracy"}
    header_results = [result for result in facts.results if not result.after and result.metric in metrics]
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=result.data.lower().replace(" ", "-"),
            dataset_name=result.data,
            metric_type=metrics[result.metric],
            metric_name=" ".join(filter(None, [f"{result.metric} (%)", result.note])),
            metric_value=result.value,
            metric_args={"views": result.views},
            source_name=facts.sources[result.source].text,
            source_url=facts.sources[result.source].url or None,
        )
        for result in header_results
    ]
    return to_yaml(
        license=facts.license,
        library_name=CARD_LIBRARY,
        pipeline_tag=pipeline_tag(_architecture(facts)),
        tags=list(CARD_TAGS),
        metrics=["accuracy"] if results else None,
        model_name=facts.name if results else None,
        eval_results=results,
    )


def _introduction_sentence(facts: CheckpointFacts) -> str:
    config = VideoMAEConfig.from_preset(facts.preset)
    height, width = config.image_height_width
    numbers = "".join(f", {number.of.format(number.value)} ({number.source})" for number in facts.numbers)
    where = (
        f"[{facts.hub_id}](https://huggingface.co/{facts.hub_id})"
        if facts.hub_id
        else f"`{facts.file}` of their model zoo"
    )
    return (
        f"{facts.title}. It is the authors' checkpoint {where}; this card is not theirs. "
        f"{config.num_hidden_layers} layers {config.hidden_size} wide, clips of {config.num_frames} frames of "
        f"{height}x{width} pixels in cubes of {config.tubelet_size}x{config.patch_size}x{config.patch_size}{numbers}."
    )


# How to use it.


def _usage_section(facts: CheckpointFacts) -> list[str | None]:
    if facts.file is not None:
        return [
            *_conversion_section(facts),
            *_usage_code(facts, facts.name, stock_first=False),
            snippets.NO_WIDGET_NOTE,
        ]
    assert facts.hub_id is not None
    return [*_usage_code(facts, facts.hub_id, stock_first=True), snippets.NO_WIDGET_NOTE]


def _conversion_section(facts: CheckpointFacts) -> list[str]:
    fetch = f"hf download {facts.hub_id} {facts.file} --local-dir .\n" if facts.hub_id else ""
    return [
        "transformers does not read it as it is. Converted, it is a checkpoint for stock transformers and for "
        "hf_videomae (tried on small weights of the same layout, not on this file):",
        snippets.code_block(f"{fetch}hf-videomae convert {facts.file} {facts.name} --license {facts.license}", "bash"),
    ]


def _usage_code(facts: CheckpointFacts, model_id: str, *, stock_first: bool) -> list[str]:
    config = VideoMAEConfig.from_preset(facts.preset)
    values: dict[str, Any] = {"frames": config.num_frames, "views": _paper_views(facts)}
    if facts.heads is not None:
        values["heads"] = int(facts.heads.value)
        stock, ours = snippets.CLASSIFY_WITH_STOCK_AND_HEADS, snippets.CLASSIFY_WITH_OURS_AND_HEADS
    elif facts.classifier:
        stock, ours = snippets.CLASSIFY_WITH_STOCK, snippets.CLASSIFY_WITH_OURS
    else:
        stock, ours = snippets.FEATURES_WITH_STOCK, snippets.FEATURES_WITH_OURS
    shown = [snippets.code_block(snippets.fill_model_id(text.format(**values), model_id)) for text in (stock, ours)]
    if facts.sampling != "dense":
        shown[1] = shown[1].replace('views="', f'sampling="{facts.sampling}", views="')
    first = "With stock transformers:" if stock_first else "With stock transformers, once converted:"
    after = []
    if not facts.classifier:
        if "encoder-only" not in facts.problems:
            shown[1] += "\n\n" + snippets.code_block(snippets.fill_model_id(snippets.RECONSTRUCT_WITH_OURS, model_id))
        after = [snippets.fill_model_id(snippets.PRETRAINED_ONLY_NOTE, model_id)]
    return [
        first,
        shown[0],
        "With hf_videomae" + (", in the views of the paper:" if facts.classifier else ":"),
        shown[1],
        *after,
    ]


def _paper_views(facts: CheckpointFacts) -> str:
    return next((result.views for result in facts.results if result.views and not result.after), "1x1")


# What is known of it.


def _known_issue_lines(facts: CheckpointFacts) -> list[str]:
    found = [load_known_issues()[name] for name in facts.problems]
    return [f"**{problem.title}** {problem.text} ({problem.source})" for problem in found]


def _training_table(facts: CheckpointFacts) -> str | None:
    rows = [
        (step.stage, step.data, step.epochs or "", f"`{step.recipe}`" if step.recipe else "", step.note, step.source)
        for step in facts.training
    ]
    return table(("stage", "data", "epochs", "recipe of this package", "note", "source"), rows)


def _results_section(facts: CheckpointFacts) -> list[str | None]:
    rows = [
        (result.data, result.metric, f"{result.value:.1f}", result.views, result.after, result.note, result.source)
        for result in facts.results
    ]
    if not rows:
        return []
    return [
        "**Not measured by us.** In percent, as published for this size and training; which of the authors' files was "
        "measured is not always said.",
        table(("data", "metric", "value", "views", "after", "note", "source"), rows),
    ]


def _limits_section(facts: CheckpointFacts) -> str:
    first = (
        "It answers with its own classes whatever a video shows."
        if facts.classifier
        else "It was trained to reconstruct: fine-tune it before use."
    )
    data = " and ".join(sorted({step.data for step in facts.training})) or "its training data"
    lines = [
        first,
        f"It carries over what is in {data}: who and what was filmed there, where, and how it was labelled.",
        "How it does for different groups of people, or on other data than named above, was not measured by us.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _bibtex_entries(facts: CheckpointFacts) -> list[str]:
    return [snippets.CITE_V1] if facts.version == 1 else [snippets.CITE_V2, snippets.CITE_V1]


def _source_lines(facts: CheckpointFacts) -> str | None:
    return "\n".join(
        f"- {key}: [{source.text}]({source.url})" if source.url else f"- {key}: {source.text}"
        for key, source in facts.sources.items()
    )


# All of them.


def render_all_cards(folder: str | Path) -> dict[Path, str]:
    """The text of every card of a folder of YAML files, and of an index of them."""
    folder = Path(folder)
    found = [read_checkpoint_facts(path) for path in sorted(folder.glob("*.yaml"))]
    if not found:
        raise CardError(f"{folder} holds no .yaml file")
    texts = {folder / f"{facts.name}.md": render_checkpoint_card(facts) for facts in found}
    return {**texts, folder / INDEX_FILE: _render_index(found)}


def _render_index(found: Sequence[CheckpointFacts]) -> str:
    rows = [
        (
            f"[{facts.name}]({facts.name}.md)",
            facts.title,
            next((f"{r.value:.1f} on {r.data}, {r.views}" for r in facts.results if not r.after), ""),
        )
        for facts in found
    ]
    return (
        "# Cards of the published checkpoints\n\n"
        "Rendered by `make cards` from the YAML files beside them; edit those. No number was measured by us: each has "
        "its source in its card. All weights are non-commercial (CC-BY-NC-4.0).\n\n"
        f"{table(('card', 'what it is', 'published top-1 (%)'), rows)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Render the cards of a folder; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if len(words) != 1:
        print("usage: python -m hf_videomae.cards.published FOLDER", file=sys.stderr)
        return 2
    try:
        texts = render_all_cards(words[0])
    except CardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, text in texts.items():
        write_atomic(path, text)
    print(f"{len(texts) - 1} cards in {words[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

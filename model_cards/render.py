"""Render the cards of the published VideoMAE checkpoints from one YAML file of facts each: `make cards` runs it.

    python model_cards/render.py [FOLDER]     # default: the folder of this script

It downloads nothing and measures nothing: every number has a source, and the cards say that it is not ours.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from huggingface_hub import EvalResult

from hf_videomae.cards import CardError, section, snippets, table, to_yaml
from hf_videomae.cards.card_check import CARD_LIBRARY, CARD_TAGS, pipeline_tag
from hf_videomae.cards.markdown import code_block, join_card
from hf_videomae.configuration_videomae import PRESETS, VideoMAEConfig
from hf_videomae.run_files import write_atomic

FOLDER = Path(__file__).resolve().parent
INDEX_FILE = "README.md"
ISSUES_FILE = "known_issues.yaml"

_Entry = TypeVar("_Entry")

# Code for checkpoints whose published configuration has a wrong number of attention heads.
_CLASSIFY_WITH_STOCK_AND_HEADS = """\
from transformers import AutoImageProcessor, VideoMAEForVideoClassification, pipeline  # 5.18 or later, and av

model = VideoMAEForVideoClassification.from_pretrained("{model_id}", num_attention_heads={heads})
processor = AutoImageProcessor.from_pretrained("{model_id}")
classify = pipeline("video-classification", model=model, image_processor=processor)
print(classify("clip.mp4"))
"""

_CLASSIFY_WITH_OURS_AND_HEADS = """\
from hf_videomae import VideoMAEForVideoClassification, predict

model = VideoMAEForVideoClassification.from_pretrained("{model_id}", num_attention_heads={heads})
(answer,) = predict(model, "clip.mp4", views="{views}")
print(answer.labels[0], answer.scores[0])
"""

_CITE_V2 = """\
@inproceedings{wang2023videomaev2,
  title     = {{VideoMAE V2}: Scaling Video Masked Autoencoders with Dual Masking},
  author    = {Wang, Limin and Huang, Bingkun and Zhao, Zhiyu and Tong, Zhan and He, Yinan and Wang, Yi and Wang, Yali
               and Qiao, Yu},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2023}
}"""


# The facts.


class KnownIssue(NamedTuple):
    """What is wrong with a checkpoint, what that causes, what to do, and who reported it."""

    title: str
    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class NumberSource:
    """Where a number comes from."""

    text: str
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class SourcedNumber:
    """A number, what it counts (a format string such as `{:.1f} million parameters`), and its source."""

    value: float
    source: str
    of: str = ""


@dataclass(frozen=True, kw_only=True)
class _DataEntry:
    """A statement about a dataset, with its source."""

    data: str
    source: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingStage(_DataEntry):
    """A stage of the training: its data, its epochs, and the recipe of this package that repeats it."""

    stage: str
    epochs: int | None = None
    recipe: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedMetric(_DataEntry):
    """A published result in percent; `after` names what was done to the checkpoint before it was measured."""

    metric: str
    value: float
    views: str = ""
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """The content of one YAML file.

    Attributes:
        name: the file's name, without its ending.
        title: what the checkpoint is, in words.
        hub_id: its repository on the Hub; None: there is only an original file.
        file: the original file, if it has to be converted.
        version: 1 or 2.
        preset: its size, a preset of `VideoMAEConfig`.
        classifier: whether it has a classifier.
        license: as the Hub spells it, with `license_source`.
        numbers: size and cost.
        training: its stages in order.
        results: published ones.
        problems: keys of `known_issues.yaml`.
        sampling: frame sampling of its published test, `dense` or `uniform`.
        heads: the number of attention heads, if the published configuration has a wrong one.
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

    @property
    def model_id(self) -> str:
        """Return how code in the card calls the model: its Hub id, or the folder that it is converted into."""
        return self.hub_id if self.hub_id and self.file is None else self.name


@cache
def load_known_issues() -> Mapping[str, KnownIssue]:
    """Read the known problems of published checkpoints, by the key that facts name."""
    values = yaml.safe_load((FOLDER / ISSUES_FILE).read_text(encoding="utf-8"))
    return {key: KnownIssue(**issue) for key, issue in values.items()}


def list_fact_files(folder: Path) -> list[Path]:
    """Return the YAML files of a folder that describe a checkpoint, sorted."""
    return sorted(path for path in folder.glob("*.yaml") if path.name != ISSUES_FILE)


def read_checkpoint_facts(path: Path) -> CheckpointFacts:
    """Read and check a YAML file of facts.

    Raises:
        CardError: for an unknown or missing key, a number without a source, or a name that nothing has.
    """
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise CardError(f"{path} is not a mapping; see the other files of its folder")
    _check_sources(values, path)
    sources = {key: _parse_entry(NumberSource, value, path) for key, value in (values.get("sources") or {}).items()}
    lists = {"numbers": SourcedNumber, "training": TrainingStage, "results": PublishedMetric}
    parsed: dict[str, Any] = {
        key: [_parse_entry(entry_type, value, path) for value in values.get(key) or []]
        for key, entry_type in lists.items()
    }
    if values.get("heads") is not None:
        parsed["heads"] = _parse_entry(SourcedNumber, values["heads"], path)
    facts = _parse_entry(CheckpointFacts, {**values, **parsed, "sources": sources}, path)
    _check_names(facts, path)
    return facts


def _parse_entry(entry_type: type[_Entry], values: Any, path: Path) -> _Entry:
    """Build a dataclass from a mapping that must have its keys and no others."""
    known = {entry.name: entry for entry in fields(entry_type)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise CardError(f"{path}: {values!r} is not a mapping of {', '.join(known)}")
    unknown = [key for key in values if key not in known]
    if unknown:
        raise CardError(f"{path}: unknown key {unknown[0]!r}; {entry_type.__name__} has {', '.join(known)}")
    required = [key for key, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    missing = [key for key in required if key not in values]
    if missing:
        raise CardError(f"{path}: {entry_type.__name__} {values} lacks {', '.join(missing)}")
    return entry_type(**values)


def _check_sources(values: dict[str, Any], path: Path) -> None:
    """Raise unless every number but `version` lies in a mapping with a `source` that is one of `sources`."""
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


# A card.


def render_checkpoint_card(facts: CheckpointFacts) -> str:
    """Return the card of a published checkpoint, as Markdown with a YAML header."""
    citations = [snippets.CITE_V1] if facts.version == 1 else [_CITE_V2, snippets.CITE_V1]
    return join_card(
        _render_header(facts),
        [
            f"# {facts.name}",
            _introduction_sentence(facts),
            section("Use", *_usage_section(facts)),
            section("Known problems", *_known_issue_lines(facts)),
            section("How it was trained", _training_table(facts)),
            section("Published results", *_results_section(facts)),
            section("Limits and biases", _limits_section(facts)),
            section(
                "License",
                f"`{facts.license}` ({facts.license_source}): no commercial use, and so it is for whatever is "
                "fine-tuned or converted from it.",
            ),
            section("Citation", *(code_block(text, "bibtex") for text in citations)),
            section("Sources", _source_lines(facts)),
        ],
    )


def _render_header(facts: CheckpointFacts) -> str:
    metrics = {"top-1": "accuracy", "top-5": "accuracy"}
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
        for result in facts.results
        if not result.after and result.metric in metrics
    ]
    return to_yaml(
        license=facts.license,
        library_name=CARD_LIBRARY,
        pipeline_tag=pipeline_tag(snippets.CLASSIFIER_CLASS if facts.classifier else snippets.PRETRAINING_CLASS),
        tags=list(CARD_TAGS),
        metrics=["accuracy"] if results else None,
        model_name=facts.name if results else None,
        eval_results=results,
    )


def _introduction_sentence(facts: CheckpointFacts) -> str:
    config = VideoMAEConfig.from_preset(facts.preset)
    height, width = config.image_height_width
    numbers = "".join(f", {number.of.format(number.value)} ({number.source})" for number in facts.numbers)
    where = f"`{facts.file}` of their model zoo"
    if facts.hub_id:
        where = f"[{facts.hub_id}](https://huggingface.co/{facts.hub_id})"
    return (
        f"{facts.title}. It is the authors' checkpoint {where}; this card is not theirs. "
        f"{config.num_hidden_layers} layers {config.hidden_size} wide, clips of {config.num_frames} frames of "
        f"{height}x{width} pixels in cubes of {config.tubelet_size}x{config.patch_size}x{config.patch_size}{numbers}."
    )


def _usage_section(facts: CheckpointFacts) -> list[str]:
    values = {
        "model_id": facts.model_id,
        "frames": VideoMAEConfig.from_preset(facts.preset).num_frames,
        "views": next((result.views for result in facts.results if result.views and not result.after), "1x1"),
        "heads": int(facts.heads.value) if facts.heads else None,
    }
    if facts.heads is not None:
        texts = [_CLASSIFY_WITH_STOCK_AND_HEADS, _CLASSIFY_WITH_OURS_AND_HEADS]
    elif facts.classifier:
        texts = [snippets.CLASSIFY_WITH_STOCK, snippets.CLASSIFY_WITH_OURS]
    else:
        texts = [snippets.FEATURES_WITH_STOCK, snippets.FEATURES_WITH_OURS]
        if "encoder-only" not in facts.problems:
            texts.append(snippets.RECONSTRUCT_WITH_OURS)
    stock, ours, *more = (code_block(text.format(**values)) for text in texts)
    if facts.sampling != "dense":
        ours = ours.replace('views="', f'sampling="{facts.sampling}", views="')
    return [
        *_conversion_section(facts),
        "With stock transformers:" if facts.file is None else "With stock transformers, once converted:",
        stock,
        "With hf_videomae, in the views of the paper:" if facts.classifier else "With hf_videomae:",
        ours,
        *more,
        *([] if facts.classifier else [snippets.PRETRAINED_ONLY_NOTE.format(**values)]),
        snippets.NO_WIDGET_NOTE,
    ]


def _conversion_section(facts: CheckpointFacts) -> list[str]:
    if facts.file is None:
        return []
    download = f"hf download {facts.hub_id} {facts.file} --local-dir .\n" if facts.hub_id else ""
    return [
        "transformers does not read it as it is. Converted, it is a checkpoint for stock transformers and for "
        "hf_videomae (tried on small weights of the same layout, not on this file):",
        code_block(f"{download}hf-videomae convert {facts.file} {facts.name} --license {facts.license}", "bash"),
    ]


def _known_issue_lines(facts: CheckpointFacts) -> list[str]:
    issues = [load_known_issues()[name] for name in facts.problems]
    return [f"**{issue.title}** {issue.text} ({issue.source})" for issue in issues]


def _training_table(facts: CheckpointFacts) -> str | None:
    rows = [
        (step.stage, step.data, step.epochs or "", f"`{step.recipe}`" if step.recipe else "", step.note, step.source)
        for step in facts.training
    ]
    return table(("stage", "data", "epochs", "recipe of this package", "note", "source"), rows)


def _results_section(facts: CheckpointFacts) -> list[str | None]:
    if not facts.results:
        return []
    rows = [
        (result.data, result.metric, f"{result.value:.1f}", result.views, result.after, result.note, result.source)
        for result in facts.results
    ]
    return [
        "**Not measured by us.** In percent, as published for this size and training; which of the authors' files was "
        "measured is not always said.",
        table(("data", "metric", "value", "views", "after", "note", "source"), rows),
    ]


def _limits_section(facts: CheckpointFacts) -> str:
    first = "It was trained to reconstruct: fine-tune it before use."
    if facts.classifier:
        first = "It answers with its own classes whatever a video shows."
    data = " and ".join(sorted({step.data for step in facts.training})) or "its training data"
    return (
        f"- {first}\n"
        f"- It carries over what is in {data}: who and what was filmed there, where, and how it was labelled.\n"
        "- How it does for different groups of people, or on other data than named above, was not measured by us."
    )


def _source_lines(facts: CheckpointFacts) -> str:
    return "\n".join(
        f"- {key}: [{source.text}]({source.url})" if source.url else f"- {key}: {source.text}"
        for key, source in facts.sources.items()
    )


# All cards.


def render_all_cards(folder: Path) -> dict[Path, str]:
    """Return the text of every card of a folder of YAML files, and of the index of them, by path."""
    all_facts = [read_checkpoint_facts(path) for path in list_fact_files(folder)]
    if not all_facts:
        raise CardError(f"{folder} holds no .yaml file")
    texts = {folder / f"{facts.name}.md": render_checkpoint_card(facts) for facts in all_facts}
    return {**texts, folder / INDEX_FILE: _render_index(all_facts)}


def _render_index(all_facts: Sequence[CheckpointFacts]) -> str:
    rows = [
        (
            f"[{facts.name}]({facts.name}.md)",
            facts.title,
            next((f"{r.value:.1f} on {r.data}, {r.views}" for r in facts.results if not r.after), ""),
        )
        for facts in all_facts
    ]
    return (
        "# Cards of the published checkpoints\n\n"
        "`make cards` renders these pages from the YAML files of this folder: edit those. Each number has its source "
        "in its\ncard, and none was measured by us. All weights are non-commercial (CC-BY-NC-4.0).\n\n"
        "A card also lists the known problems of its checkpoint. Above all, the small models of the Hub\n"
        "[load with a wrong number of heads](videomae-small-finetuned-kinetics.md).\n\n"
        "To add a card, write a YAML file like the others, with a source for each number, and run `make cards`. The\n"
        "texts of known problems are in `known_issues.yaml`.\n\n"
        f"{table(('card', 'what it is', 'published top-1 (%)'), rows)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Render the cards of a folder; return the exit status."""
    parser = argparse.ArgumentParser(description="Render the cards of the published checkpoints.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="default: %(default)s")
    folder = parser.parse_args(arguments).folder
    try:
        texts = render_all_cards(folder)
    except CardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, text in texts.items():
        write_atomic(path, text)
    print(f"{len(texts) - 1} cards in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

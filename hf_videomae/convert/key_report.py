"""Record what became of every key of a checkpoint, what was assumed, and how far outputs differ from a reference."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from .checkpoint_files import SourceCheckpoint, StateDict

KEY_BIAS_REASON = "softmax cancels it, because it adds the same to all scores of a query"
"""Why the bias of an attention's keys is dropped."""
FIXED_POSITIONS_REASON = "the fixed sinusoid, which is computed and never stored"
"""Why position embeddings are dropped."""


@dataclass(frozen=True)
class KeyMapping:
    """What one key became: the weights that hold it now, or why it was left out."""

    key: str
    became: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The largest difference between two forward passes of the same random clip."""

    against: str
    largest: float
    scale: float
    """Largest absolute value of the reference, to judge the difference by."""


@dataclass(kw_only=True)
class ConversionReport:
    """The record of one conversion, written to `conversion.json`.

    Attributes:
        source: the checkpoint that was converted.
        kind: the kind of checkpoint that it was recognized as.
        model: the class of the converted model.
        keys: what became of every key of the source.
        assumed: what the source does not say, and what was used instead.
        warnings: what the user should know before using the result.
        differences: the forward passes that were compared.
        unchecked: why none was compared.
        sampling: how its clips are sampled, the views of its test, and where that is from.
        license: as stated by the source or the user; None if not stated.
        stock: whether stock transformers gives the same numbers with the result.
    """

    source: str
    kind: str
    model: str = ""
    keys: list[KeyMapping] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    unchecked: str | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    revision: str | None = None
    license: str | None = None
    stock: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the report as lines of text: similar keys on one line, a line for each thing left out, assumed or
        compared.
        """
        skipped = [key_mapping for key_mapping in self.keys if not key_mapping.became]
        lines = [f"{self.source}: {self.kind}", *_mapped_lines(self.keys), *_skipped_lines(skipped)]
        lines += [f"  assumed: {text}" for text in self.assumed]
        lines += _sampling_lines(self.sampling)
        lines += [
            f"  largest difference to {entry.against}: {entry.largest:.1e} (outputs reach {entry.scale:.2g})"
            for entry in self.differences
        ]
        lines += [f"  not compared: {self.unchecked}"] if self.unchecked else []
        rest = f"{len(self.keys) - len(skipped)} used, {len(skipped)} left out" if skipped else "all used"
        return [*lines, f"{self.source}: {len(self.keys)} weights read, {rest}, as {self.model}"]


def _sampling_lines(sampling: dict[str, Any]) -> list[str]:
    if not sampling or sampling["assumed"]:  # then it is among the assumptions
        return []
    how = "uniform over the whole video" if sampling["mode"] == "uniform" else f"dense, stride {sampling['stride']}"
    tested = "" if sampling["views"] is None else f"; test it with --views {sampling['views']}"
    return [f"  sampling: {how} ({sampling['source']}){tested}"]


def _key_pattern(key: str) -> str:
    """Return a key without its layer number and without `.weight` or `.bias`."""
    return re.sub(r"\.(weight|bias)$", "", re.sub(r"\.\d+\.", ".*.", key))


def _mapped_lines(key_mappings: list[KeyMapping]) -> list[str]:
    rows: dict[str, tuple[dict[str, None], set[str], int]] = {}
    for key_mapping in key_mappings:
        if key_mapping.became:
            became, notes, count = rows.get(_key_pattern(key_mapping.key), ({}, set(), 0))
            became |= dict.fromkeys(map(_key_pattern, key_mapping.became))
            rows[_key_pattern(key_mapping.key)] = became, notes | ({key_mapping.note} - {""}), count + 1
    return [
        f"  {key} -> {_brace_names(list(became))}  x {count}" + "".join(f" ({note})" for note in sorted(notes))
        for key, (became, notes, count) in rows.items()
    ]


def _skipped_lines(key_mappings: list[KeyMapping]) -> list[str]:
    reasons: dict[str, dict[str, int]] = {}
    for key_mapping in key_mappings:
        counts = reasons.setdefault(key_mapping.note, {})
        counts[_key_pattern(key_mapping.key)] = counts.get(_key_pattern(key_mapping.key), 0) + 1
    return [
        f"  left out, {note}: {_first_few(list(counts))}  x {sum(counts.values())}" for note, counts in reasons.items()
    ]


def _brace_names(names: list[str]) -> str:
    """Return `a.query, a.key` as `a.{query,key}`."""
    stems = {name.rpartition(".")[0] for name in names}
    if len(names) == 1 or len(stems) > 1:
        return ", ".join(names)
    return f"{stems.pop()}.{{{','.join(name.rpartition('.')[2] for name in names)}}}"


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def begin_report(source: SourceCheckpoint, kind: str) -> ConversionReport:
    """Return a report that says where the weights came from."""
    report = ConversionReport(
        source=source.name,
        kind=kind,
        hashes=source.hashes,
        revision=source.revision,
        license=source.license,
    )
    halves = sorted({str(value.dtype).removeprefix("torch.") for value in source.weights.values()} - {"float32"})
    if halves:
        report.assumed.append(f"weights stored as {', '.join(halves)} are written as float32")
    return report


class WeightMapping:
    """Weights under our names, collected together with what became of each key."""

    def __init__(self) -> None:
        self.weights: StateDict = {}
        self.key_mappings: list[KeyMapping] = []

    def assign(self, key: str, weights: StateDict, *, note: str = "") -> None:
        """Record that the key became these weights.

        Raises:
            ValueError: if another key became one of them already.
        """
        taken = sorted(self.weights.keys() & weights.keys())
        if taken:
            other = next(key_mapping.key for key_mapping in self.key_mappings if taken[0] in key_mapping.became)
            raise ValueError(f"{other} and {key} are both {taken[0]}: remove the one that is not used from the file")
        self.weights |= weights
        self.key_mappings.append(KeyMapping(key, tuple(weights), note))

    def skip(self, key: str, why: str) -> None:
        """Record why the key is not used."""
        self.key_mappings.append(KeyMapping(key, (), why))


def load_full_state_dict(model: nn.Module, weights: StateDict, *, source: str) -> None:
    """Load weights that must fill the model exactly.

    Raises:
        ValueError: naming every weight that is missing, has no place in the model, or has another shape.
    """
    own = model.state_dict()
    wrong = [
        f"{name} {tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in sorted(own.keys() & weights.keys())
        if own[name].shape != weights[name].shape
    ]
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if wrong or missing or unexpected:
        raise ValueError(
            f"the weights of {source} do not fit the configuration. "
            + (f"Other shapes: {'; '.join(wrong)}. " if wrong else "")
            + (f"Not in the file: {', '.join(missing)}. " if missing else "")
            + (f"Not in the model: {', '.join(unexpected)}. " if unexpected else "")
            + "Check the fields that were given."
        )
    model.load_state_dict(weights)


def compare_outputs(against: str, outputs: torch.Tensor, reference: torch.Tensor) -> Difference:
    """Return the largest difference between two outputs."""
    difference = (outputs.float() - reference.float()).abs().max().item()
    return Difference(against=against, largest=difference, scale=reference.abs().max().item())

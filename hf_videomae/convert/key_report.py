"""What became of every key of a checkpoint, what was assumed, and how far the numbers agree."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from .checkpoint_files import SourceCheckpoint, StateDict


@dataclass(frozen=True)
class KeyMapping:
    """What became of one key: the weights it is in now, or why it was left out."""

    key: str
    became: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The largest difference of two forward passes of the same random clip."""

    against: str
    largest: float
    scale: float
    """Largest absolute value of the reference, to judge the difference by."""


@dataclass(kw_only=True)
class ConversionReport:
    """The record of one conversion; `conversion.json` in the output.

    Attributes:
        source: what was converted.
        kind: what it was found to be.
        model: the class it became.
        keys: the fate of every key of the source.
        assumed: what the source does not say, and what was taken instead.
        warnings: what the user should know before using the result.
        differences: forward passes that were compared.
        unchecked: why none was compared.
        sampling: how its clips are sampled, the views of its test, and who says so.
        license: as stated by the source or the user; None where nobody said.
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
        """For JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people: what is alike on one line, a line for each thing left out, assumed or compared."""
        left = [key_mapping for key_mapping in self.keys if not key_mapping.became]
        found = [f"{self.source}: {self.kind}", *_mapped_lines(self.keys), *_skipped_lines(left)]
        found += [f"  assumed: {text}" for text in self.assumed]
        found += _sampling_lines(self.sampling)
        found += [
            f"  largest difference to {entry.against}: {entry.largest:.1e} (outputs reach {entry.scale:.2g})"
            for entry in self.differences
        ]
        found += [f"  not compared: {self.unchecked}"] if self.unchecked else []
        rest = "all used" if not left else f"{len(self.keys) - len(left)} used, {len(left)} left out"
        return [*found, f"{self.source}: {len(self.keys)} weights read, {rest}, as {self.model}"]


def _sampling_lines(sampling: dict[str, Any]) -> list[str]:
    if not sampling or sampling["assumed"]:  # then it stands there
        return []
    how = "uniform over the whole video" if sampling["mode"] == "uniform" else f"dense, stride {sampling['stride']}"
    tested = "" if sampling["views"] is None else f"; test it with --views {sampling['views']}"
    return [f"  sampling: {how} ({sampling['source']}){tested}"]


def _key_pattern(key: str) -> str:
    """A key without the number of its layer and without `.weight` or `.bias`."""
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
    """`a.query, a.key` as `a.{query,key}`."""
    stems = {name.rpartition(".")[0] for name in names}
    if len(names) == 1 or len(stems) > 1:
        return ", ".join(names)
    return f"{stems.pop()}.{{{','.join(name.rpartition('.')[2] for name in names)}}}"


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def begin_report(source: SourceCheckpoint, kind: str) -> ConversionReport:
    """A report that says where the weights came from."""
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
    """Weights under our names, gathered key by key together with the fate of each."""

    def __init__(self) -> None:
        self.weights: StateDict = {}
        self.key_mappings: list[KeyMapping] = []

    def assign(self, key: str, weights: StateDict, *, note: str = "") -> None:
        """The key became these weights.

        Raises:
            ValueError: where another key became one of them already.
        """
        taken = sorted(self.weights.keys() & weights.keys())
        if taken:
            other = next(key_mapping.key for key_mapping in self.key_mappings if taken[0] in key_mapping.became)
            raise ValueError(f"{other} and {key} are both {taken[0]}: take the one that is not used out of the file")
        self.weights |= weights
        self.key_mappings.append(KeyMapping(key, tuple(weights), note))

    def skip(self, key: str, why: str) -> None:
        """The key is not used."""
        self.key_mappings.append(KeyMapping(key, (), why))


def load_full_state_dict(model: nn.Module, weights: StateDict, *, source: str) -> None:
    """Load weights that must fill the model exactly.

    Raises:
        ValueError: naming every weight that is missing, has no place or another shape.
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


def compare_outputs(against: str, found: torch.Tensor, reference: torch.Tensor) -> Difference:
    """The largest difference of two outputs."""
    difference = (found.float() - reference.float()).abs().max().item()
    return Difference(against=against, largest=difference, scale=reference.abs().max().item())


__all__ = [
    "Difference",
    "KeyMapping",
    "WeightMapping",
    "ConversionReport",
    "begin_report",
    "compare_outputs",
    "load_full_state_dict",
]

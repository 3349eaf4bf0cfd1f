"""What is known to be wrong with published checkpoints, and what to do: written once, in `problems.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("problems.yaml")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong, what it does, what to do; and who says so."""

    title: str
    text: str
    source: str


@cache
def known_problems() -> Mapping[str, Problem]:
    """Key in a YAML of `model_cards/` -> the problem."""
    import yaml

    found = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {key: Problem(**values) for key, values in found.items()}

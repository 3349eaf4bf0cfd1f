"""What is known to be wrong with published checkpoints, and what to do: written once, in `known_issues.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ISSUES_FILE = Path(__file__).with_name("known_issues.yaml")


@dataclass(frozen=True, kw_only=True)
class KnownIssue:
    """What is wrong, what it does, what to do; and who says so."""

    title: str
    text: str
    source: str


@cache
def load_known_issues() -> Mapping[str, KnownIssue]:
    """Key in a YAML of `model_cards/` -> the problem."""
    import yaml

    found = yaml.safe_load(_ISSUES_FILE.read_text(encoding="utf-8"))
    return {key: KnownIssue(**values) for key, values in found.items()}

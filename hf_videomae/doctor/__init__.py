"""Diagnose a machine (`hf-videomae doctor`): can it decode, train and reach the Hub, and if not, what fixes it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .checks import Finding, diagnose, is_healthy
from .environment import DiskSpace, Environment, collect_environment, version_line

__all__ = [
    "Environment",
    "Finding",
    "DiskSpace",
    "collect_environment",
    "diagnose",
    "is_healthy",
    "to_dict",
    "to_table",
]

_STATUS_LABELS = {"ok": "ok", "note": "note", "warning": "WARNING", "broken": "BROKEN"}


def to_table(findings: Sequence[Finding]) -> str:
    """Return a readable report: a line per finding, and below each problem the line that fixes it."""
    width = max(len(finding.about) for finding in findings)
    lines = [version_line()]
    for finding in findings:
        lines.append(f"{_STATUS_LABELS[finding.status]:8} {finding.about:{width}}  {finding.found}")
        if finding.fix is not None:
            lines.append(f"{'':8} {'':{width}}  -> {finding.fix}")
    if not is_healthy(list(findings)):
        lines.append("other messages and what to do: examples/TROUBLESHOOTING.md in the repository")
    return "\n".join([*lines, _summary_line(findings)])


def to_dict(facts: Environment, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the verdict, the findings, and the facts behind them, for programs and bug reports."""
    return {
        "healthy": is_healthy(list(findings)),
        "versions": version_line(),
        "findings": [asdict(finding) for finding in findings],
        "facts": asdict(facts),
    }


def _summary_line(findings: Sequence[Finding]) -> str:
    broken = [finding.about for finding in findings if finding.status == "broken"]
    warnings = sum(finding.status == "warning" for finding in findings)
    if broken:
        return f"{len(broken)} broken: {', '.join(broken)}"
    return "everything that is needed works" + (f", {warnings} warnings" if warnings else "")

"""`hf-videomae doctor`: does this machine decode, train and reach the Hub, and if not, which one line mends it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .checks import Finding, diagnose, is_healthy
from .environment import DiskSpace, Environment, collect_environment, versions

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
    """For people: a line per finding, and below each problem the line that fixes it."""
    width = max(len(finding.about) for finding in findings)
    lines = [versions()]
    for finding in findings:
        lines.append(f"{_STATUS_LABELS[finding.status]:8} {finding.about:{width}}  {finding.found}")
        if finding.fix is not None:
            lines.append(f"{'':8} {'':{width}}  -> {finding.fix}")
    if not is_healthy(list(findings)):
        lines.append("other messages and what to do: examples/TROUBLESHOOTING.md in the repository")
    return "\n".join([*lines, _summary_line(findings)])


def to_dict(facts: Environment, findings: Sequence[Finding]) -> dict[str, Any]:
    """For programs and bug reports: the verdict, the findings, and the facts they rest on."""
    return {
        "healthy": is_healthy(list(findings)),
        "versions": versions(),
        "findings": [asdict(finding) for finding in findings],
        "facts": asdict(facts),
    }


def _summary_line(findings: Sequence[Finding]) -> str:
    broken = [finding.about for finding in findings if finding.status == "broken"]
    warnings = sum(finding.status == "warning" for finding in findings)
    if broken:
        return f"{len(broken)} broken: {', '.join(broken)}"
    return "everything that is needed works" + (f", {warnings} warnings" if warnings else "")

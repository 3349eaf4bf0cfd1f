"""Run the Python of a card as its reader would, on a model of the test."""

import re
from pathlib import Path

import pytest


def python_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def run_snippets(
    card: str, *, model_id: str, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, object]]:
    """Run each snippet on another model, in a folder with a `clip.mp4`, and return the variables of each."""
    pytest.importorskip("av", reason="the stock pipeline needs PyAV")
    monkeypatch.chdir(folder)
    found = []
    for snippet in python_of(card):
        assert model_id in snippet
        names: dict[str, object] = {}
        exec(compile(snippet.replace(model_id, str(model)), "card", "exec"), names)
        found.append(names)
    return found

"""Running the Python of a card as its reader would, on a model of one's own."""

import re
from pathlib import Path

import pytest


def python_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def run_snippets(
    card: str, *, model_id: str, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, object]]:
    """Each snippet with the model's id replaced, in a folder that has a `clip.mp4`; returns what each one named."""
    pytest.importorskip("av", reason="the stock pipeline needs PyAV")
    monkeypatch.chdir(folder)
    found = []
    for snippet in python_of(card):
        assert model_id in snippet
        names: dict[str, object] = {}
        exec(compile(snippet.replace(model_id, str(model)), "card", "exec"), names)
        found.append(names)
    return found

"""Test that local paths do not get into published texts."""

import pytest

from hf_videomae.redaction import redact_command, redact_path, redact_text, redact_values


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("org/name", "org/name"),
        ("outputs/demo", "outputs/demo"),
        ("motion", "motion"),
        ("/home/anna/videos of anna/k400", "path/to/k400"),
        ("/home/anna", "path/to/folder"),
        ("/Users/anna/", "path/to/folder"),
        ("~", "path/to/folder"),
        ("~anna/k400", "path/to/k400"),
        ("../anna/k400", "path/to/k400"),
        ("outputs/../../anna/k400", "path/to/k400"),
        ("$HOME/k400", "path/to/k400"),
        ("C:\\Users\\anna\\k400", "path/to/k400"),
        ("\\\\server\\anna\\k400", "path/to/k400"),
        ("file:///home/anna/a.mp4", "path/to/a.mp4"),
        ("/home/anna/project/examples/pretrain.py", "examples/pretrain.py"),
        ("https://anna:secret@host.org/a.mp4?token=secret", "https://host.org/a.mp4"),
        ("HTTPS://anna:secret@host.org/a.mp4?token=secret", "HTTPS://host.org/a.mp4"),
        ("https://anna:sec@ret@host.org/a@b.mp4?c@d", "https://host.org/a@b.mp4"),
        ("hf_" + "a" * 30, "TOKEN"),
    ],
)
def test_redact_path(path: str, shown: str) -> None:
    assert redact_path(path) == shown


def test_redact_command() -> None:
    command = (
        "python /home/anna/p/examples/pretrain.py --dataset '/data/anna b/k 400' --model=/data/team/m --recipe tiny "
        f"HF_TOKEN=hf_{'a' * 30}"
    )
    shown = "python examples/pretrain.py --dataset 'path/to/k 400' --model=path/to/m --recipe tiny HF_TOKEN=TOKEN"
    assert redact_command(command) == shown
    assert "anna" not in redact_command("python '/home/anna/x.py")  # a quote that is not closed


def test_redact_text() -> None:
    text = "no frame in '/home/anna b/x.mp4' and/or /mnt/anna/y.mp4 (3/4 of it), see https://host.org/a?key=secret"
    assert redact_text(text) == "no frame in 'path/to/x.mp4' and/or path/to/y.mp4 (3/4 of it), see https://host.org/a"


def test_redact_values_reaches_nested_values() -> None:
    values = {"a": ["/home/anna/x", {"command": "run --x=/home/anna/y"}], "b": 1.5, "c": None, "d": "Linux-6"}
    assert redact_values(values) == {
        "a": ["path/to/x", {"command": "run --x=path/to/y"}],
        "b": 1.5,
        "c": None,
        "d": "Linux-6",
    }

"""Test the dataset card: it depends on the report alone, names no local path, inherits the license and keeps edits."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard, HfApi

from hf_videomae.cards import is_unedited
from hf_videomae.cli import main
from hf_videomae.data import DataError, MotionSource
from hf_videomae.prepare import PrepareSettings, check_dataset_card, prepare, write_dataset_card
from hf_videomae.prepare.dataset_card import prepare_command
from hf_videomae.video.encoding import EncodeSettings
from tests.helpers.datasets_on_disk import write_folder, write_parquet
from tests.local_hub import LocalHub

SECRET = "anna"


def make(source: str | Path, out: Path, **settings: Any) -> Any:
    small = PrepareSettings(encode=EncodeSettings(short_side=32), **settings)
    return prepare(str(source), out, settings=small, jobs=1)


def header(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder in somebody's home with two good videos and a broken one."""
    raw = write_folder(tmp_path / "home" / SECRET, count=3)
    (raw / "class_0" / "000.mp4").write_bytes(b"no video")
    return raw


def test_card_and_report_name_no_local_path(home: Path, tmp_path: Path) -> None:
    (home / "table.csv").write_text("path,label\nclass_1/001.mp4,run\nclass_0/002.mp4,jump\nclass_0/000.mp4,run\n")
    prepare(str(home), tmp_path / "out", settings=PrepareSettings(), index=str(home / "table.csv"), jobs=1)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    command = "hf-videomae prepare path/to/anna path/to/set --index path/to/table.csv --short_side 256"
    assert prepare_command(report).startswith(command)
    for path in (tmp_path / "out").iterdir():
        assert path.is_dir() or str(tmp_path) not in path.read_text()


def test_header_is_valid_and_example_code_runs(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    make(home, out)
    card = (out / "README.md").read_text()
    assert check_dataset_card(card, out) == [] and DatasetCard(card).data.pretty_name == SECRET
    (code,) = (block.partition("```")[0] for block in card.split("```python\n")[1:])
    exec(compile(code.replace('"org/name"', repr(str(out))), "card", "exec"), {})
    assert int(capsys.readouterr().out) > 0
    assert main(["card", str(out), "--check"]) == 0
    assert "Of 3 videos 1 was left out" in card and "| why left out | videos |" in card


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task_categories": ["video-training"]}, "task_categories 'video-training' is not one"),
        ({"size_categories": ["few"]}, "size_categories 'few' is not one"),
        ({"license": "free"}, "license 'free' is not one"),
        ({"configs": [{"data_files": [{"split": "test", "path": "data/test-*"}]}]}, "there is no such file"),
    ],
)
def test_header_problems_are_named(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    (problem,) = check_dataset_card(f"---\n{yaml.safe_dump(fields)}---\n# Videos\n", tmp_path)
    assert words in problem


def test_dataset_made_from_hub_dataset_keeps_its_license(hub: LocalHub, tmp_path: Path) -> None:
    folder = write_parquet(hub.dataset("org/raw"), rows=(3,))
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    out, commit = tmp_path / "out", str(HfApi().dataset_info("org/raw").sha)
    report = make("org/raw", out).report
    assert report["origin"] == {"hub_id": "org/raw", "revision": commit, "license": "cc-by-nc-4.0"}
    fields = header(out)
    assert (fields["license"], fields["source_datasets"]) == ("cc-by-nc-4.0", ["org/raw"])
    card = (out / "README.md").read_text()
    assert f"--revision {commit}" in card and "no commercial use" in card
    with pytest.raises(DataError, match="cannot be mit: org/raw is cc-by-nc-4.0"):
        make("org/raw", tmp_path / "free", license="mit")
    assert not (tmp_path / "free").exists()


def test_edited_card_is_kept_and_its_numbers_updated(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert make(home, out).notes == ()
    path = out / "README.md"
    path.write_text(path.read_text().replace("# anna", "# Ours").replace("pretty_name: anna", "pretty_name: Ours"))
    (home / "class_1" / "new.mp4").write_bytes(MotionSource()[5].video)
    (note,) = make(home, out).notes
    assert "was edited and is kept" in note and "# Ours" in path.read_text() and not is_unedited(path.read_text())
    assert header(out)["pretty_name"] == "Ours"
    assert header(out)["dataset_info"]["splits"][0]["num_examples"] == 3
    with pytest.raises(SystemExit):
        main(["card", str(out)])
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert main(["card", str(out), "--overwrite", "--model_id", "org/set", "--license", "mit"]) == 0
    assert '"org/set"' in path.read_text() and header(out)["license"] == "mit" and is_unedited(path.read_text())


def test_rendering_again_gives_the_same_card(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(home, out, license="CC-BY-4.0")
    before = (out / "README.md").read_bytes()
    path, notes = write_dataset_card(out)
    assert path.read_bytes() == before and notes == ()


def test_folder_without_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no prepared dataset"):
        write_dataset_card(tmp_path)

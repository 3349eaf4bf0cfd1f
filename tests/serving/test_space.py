"""Test the files of a Space; integration/test_space_page.py tests the page itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification
from hf_videomae.cards import LicenseError
from hf_videomae.cli import main
from hf_videomae.data.motion import MotionSource, encode_clip
from hf_videomae.serving.space import GRADIO_VERSION, SpaceError, write_space

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Save a classifier and a pre-trained model."""
    root = tmp_path_factory.mktemp("models")
    VideoMAEForVideoClassification(VideoMAEConfig.from_preset("tiny", task="classification")).save_pretrained(
        root / "finetuned"
    )
    VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny")).save_pretrained(root / "pretrained")
    (root / "pretrained" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return str(root / "finetuned"), str(root / "pretrained")


def header(folder: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    return found


def test_space_with_both_models(models: tuple[str, str], tmp_path: Path) -> None:
    finetuned, pretrained = models
    folder = tmp_path / "space"
    space = write_space(folder, model=finetuned, pretrained=pretrained, title="Motions: seen")
    assert {"app.py", "space.json", "requirements.txt", "packages.txt", "README.md"} <= set(space.files)
    facts = header(folder)
    assert facts["sdk"] == "gradio" and facts["app_file"] == "app.py" and facts["title"] == "Motions: seen"
    assert facts["license"] == "cc-by-nc-4.0"  # the most restrictive license of the models
    assert "models" not in facts  # folders are not ids, and their paths are private
    assert str(tmp_path.parent) not in (folder / "README.md").read_text()
    assert json.loads((folder / "space.json").read_text())["pretrained"] == pretrained
    assert (folder / "app.py").read_text() == (ROOT / "hf_videomae" / "serving" / "space_app.py").read_text()
    assert (folder / "hf_videomae" / "__init__.py").is_file()
    assert sum("upload it" in note for note in space.notes) == 2
    assert "ffmpeg" in (folder / "packages.txt").read_text()
    for name in ("torch", "torchcodec", "transformers", "huggingface_hub"):
        assert re.search(rf"^{name}==[\d.]+$", (folder / "requirements.txt").read_text(), flags=re.MULTILINE)


def test_gradio_version_matches_constraints() -> None:
    assert f"gradio=={GRADIO_VERSION}\n" in (ROOT / "constraints.txt").read_text() + "\n"


def test_package_argument_replaces_copy_of_package(models: tuple[str, str], tmp_path: Path) -> None:
    spec = "hf-videomae @ git+https://example.org/hf_videomae@v1"
    space = write_space(tmp_path, model=models[0], package=spec, license="mit")
    assert len(space.files) == 5 and spec in (tmp_path / "requirements.txt").read_text().splitlines()
    assert header(tmp_path)["license"] == "mit"


def test_edited_files_need_overwrite(models: tuple[str, str], tmp_path: Path) -> None:
    write_space(tmp_path, model=models[0])
    write_space(tmp_path, model=models[0])  # the same again is no change
    (tmp_path / "app.py").write_text("mine")
    with pytest.raises(SpaceError, match=r"app\.py already"):
        write_space(tmp_path, model=models[0])
    assert (tmp_path / "app.py").read_text() == "mine"
    (tmp_path / "notes.txt").write_text("mine")
    write_space(tmp_path, model=models[0], overwrite=True)
    assert (tmp_path / "app.py").read_text() != "mine" and (tmp_path / "notes.txt").read_text() == "mine"


def test_models_of_the_wrong_kind_are_refused(models: tuple[str, str], tmp_path: Path) -> None:
    finetuned, pretrained = models
    for options, said in (
        ({"model": pretrained}, "no classifier"),
        ({"pretrained": finetuned}, "is a classifier"),
        ({}, "needs a model"),
    ):
        with pytest.raises(SpaceError, match=said):
            write_space(tmp_path / "space", **options)
    with pytest.raises(LicenseError):
        write_space(tmp_path / "space", pretrained=pretrained, license="mit")
    assert not (tmp_path / "space").exists()


def test_space_command(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", str(tmp_path / "space"), "--model", models[0]]) == 0
    output, notes = capsys.readouterr()
    assert "app.py" in output and "upload it" in notes
    with pytest.raises(SystemExit) as stop:
        main(["space", str(tmp_path / "other"), "--model", "org/nowhere"])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_error_messages_contain_no_local_paths() -> None:
    pytest.importorskip("gradio")
    from hf_videomae.serving.space_app import format_error

    text = format_error(OSError(28, "No space left on device", "/home/anna/uploads/a.mp4"))
    assert text == "**That did not work:** No space left on device"
    assert format_error(ValueError("17 is no class")) == "**That did not work:** 17 is no class"


def test_license_of_first_ancestor_is_inherited(models: tuple[str, str], tmp_path: Path) -> None:
    """Read the ancestors from run.json, because a run writes no card."""
    shutil.copytree(models[0], tmp_path / "finetuned")
    parents = [{"model": "org/pre", "hub_id": "org/pre", "license": "mit", "ancestors": [NON_COMMERCIAL]}]
    (tmp_path / "finetuned" / "run.json").write_text(json.dumps({"parents": parents}))
    with pytest.raises(LicenseError, match="cannot be mit: MCG-NJU/videomae-base is cc-by-nc-4.0"):
        write_space(tmp_path / "space", model=str(tmp_path / "finetuned"), license="mit")
    write_space(tmp_path / "space", model=str(tmp_path / "finetuned"))
    assert header(tmp_path / "space")["license"] == "cc-by-nc-4.0"


NON_COMMERCIAL = {"model": "MCG-NJU/videomae-base", "hub_id": "MCG-NJU/videomae-base", "license": "cc-by-nc-4.0"}

ALONE = """
import importlib.util, sys

import hf_videomae
from hf_videomae.inference import predict_timeline, load_processor, load_classifier, token_saliency, draw_timeline

if importlib.util.find_spec("gradio"):
    from hf_videomae.serving import space_app

(answer,) = hf_videomae.predict(sys.argv[1], sys.argv[2])
print(hf_videomae.__file__, len(answer.scores))
"""


@pytest.mark.integration
def test_copied_package_works_alone(models: tuple[str, str], tmp_path: Path) -> None:
    write_space(tmp_path / "space", model=models[0])
    (tmp_path / "clip.mp4").write_bytes(encode_clip(MotionSource(split="test").frames(0)))
    finished = in_process(tmp_path / "space", "-c", ALONE, models[0], str(tmp_path / "clip.mp4"))
    assert Path(finished.stdout.split()[0]) == tmp_path / "space" / "hf_videomae" / "__init__.py"


def test_writing_a_space_does_not_import_gradio(models: tuple[str, str], tmp_path: Path) -> None:
    code = "import sys; from hf_videomae.cli import main; main(sys.argv[1:]); assert 'gradio' not in sys.modules"
    in_process(ROOT, "-c", code, "space", str(tmp_path / "space"), "--model", models[0])
    assert (tmp_path / "space" / "app.py").is_file()


def in_process(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with only the package of one folder on its path."""
    variables = {**os.environ, "PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    finished = subprocess.run(command, cwd=home, env=variables, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return finished

"""Test register_auto_classes in its own processes, because registering cannot be undone."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEVideoProcessor

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny")).save_pretrained(folder / "pretrained")
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_labels=3)
    VideoMAEForVideoClassification(config).save_pretrained(folder / "classifier")
    for name in ("pretrained", "classifier"):
        VideoMAEVideoProcessor.from_config(config).save_pretrained(folder / name)
    return folder


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


LOAD_ALL = """
import sys
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification
folder = sys.argv[1]
{register}
for auto, name in [(AutoConfig, "pretrained"), (AutoModel, "pretrained"), (AutoModelForPreTraining, "pretrained"),
                   (AutoModelForVideoClassification, "classifier")]:
    loaded = auto.from_pretrained(f"{{folder}}/{{name}}")
    print(type(loaded).__module__.split(".")[0], type(loaded).__name__)
"""
NAMES = ["VideoMAEConfig", "VideoMAEModel", "VideoMAEForPreTraining", "VideoMAEForVideoClassification"]


@pytest.mark.integration
def test_all_auto_classes_return_ours_after_registering(checkpoints: Path) -> None:
    register = "import hf_videomae; print(hf_videomae.register_auto_classes() == hf_videomae.register_auto_classes())"
    output = run(LOAD_ALL.format(register=register), checkpoints)
    assert "True" in output
    for name in NAMES:
        assert f"hf_videomae {name}" in output


@pytest.mark.integration
def test_auto_classes_return_stock_without_registering(checkpoints: Path) -> None:
    output = run(LOAD_ALL.format(register="import hf_videomae; hf_videomae.VideoMAEModel"), checkpoints)
    for name in NAMES:
        assert f"transformers {name}" in output


def test_missing_video_processor_is_warned_about(checkpoints: Path) -> None:
    code = """
import sys
from transformers.utils import is_torchvision_available
import hf_videomae
names = hf_videomae.register_auto_classes()
print(is_torchvision_available(), "AutoVideoProcessor" in names)
if is_torchvision_available():
    from transformers import AutoVideoProcessor
    print(type(AutoVideoProcessor.from_pretrained(sys.argv[1] + "/classifier")).__module__)
"""
    output = run(code, checkpoints)
    if "True True" in output:
        assert "hf_videomae.video_processing_videomae" in output
    else:
        assert "False False" in output
        assert "AutoVideoProcessor is left out" in output and "torchvision" in output

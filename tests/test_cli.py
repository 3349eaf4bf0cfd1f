"""Test the command `hf-videomae`: its output, its files and its errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hf_videomae
from hf_videomae.cli import main
from hf_videomae.convert import load_original_checkpoint


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(stop.code or 0)
    output, errors = capsys.readouterr()
    return status, output, errors


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        status, output, _ = run(capsys, *arguments)
        assert status == 0
        commands = ("convert", "reconstruct", "predict", "features", "prepare", "doctor")
        commands += ("card", "push", "endpoint", "space")
        assert all(command in output for command in commands)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"hf-videomae {hf_videomae.__version__}\n")


def test_help_needs_no_torch() -> None:
    code = "import sys; from hf_videomae.cli import main; main([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_convert_writes_a_complete_checkpoint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fixtures_dir: Path
) -> None:
    source = fixtures_dir / "original_finetune.pth"
    # What the shapes of a file this small do not tell, in both ways of writing it.
    fields = ["--num_attention_heads", "3", "--image_size=32", "--num-frames", "8"]
    status, output, errors = run(capsys, "convert", str(source), str(tmp_path / "out"), *fields)
    assert status == 0 and "error" not in errors
    assert "weights read, all used" in output and "VideoMAEForVideoClassification" in output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
    } <= written
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    processor = hf_videomae.VideoMAEVideoProcessor.from_pretrained(tmp_path / "out")
    assert config["num_frames"] == processor.num_frames == 8
    model = hf_videomae.VideoMAEForVideoClassification.from_pretrained(tmp_path / "out")
    original = load_original_checkpoint(source, num_attention_heads=3, image_size=32, num_frames=8)
    for name, weight in original.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "missing.pth", "out"], "missing.pth"),
        (["convert", "missing.pth", "out", "--num_frame", "8"], "--num_frame is not a field"),
        (["convert", "missing.pth", "out", "--num_frames"], "no value"),
        (["convert", "missing.pth", "out", "stray"], "stray has no value"),
        (["convert", "missing.pth", "out", "stray", "8"], "stray is not a field"),
        (["convert"], "required"),
        (
            ["reconstruct", "video.mp4", "--model", "missing-directory", "--output", "x", "--stray", "1"],
            "unrecognized",
        ),
        (["predict", "--model", "m"], "required"),
        (["predict", "x.mp4", "--model", "missing-directory"], "missing-directory"),
        (["features", "x.mp4", "--model", "m"], "required"),
        (["features", "x.mp4", "--model", "m", "--output_dir", "o", "--pool", "cls"], "invalid choice"),
        (["dance"], "dance"),
    ],
)
def test_user_errors_are_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, output, errors = run(capsys, *arguments)
    assert status == 2
    assert words in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors and output == ""
    assert not any(tmp_path.iterdir())


def test_convert_refuses_another_models_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"model": {"conv1.weight": torch.zeros(4, 3, 7, 7)}}, tmp_path / "resnet.pth")
    status, _, errors = run(capsys, "convert", str(tmp_path / "resnet.pth"), str(tmp_path / "out"))
    assert status == 2 and len(errors.strip().splitlines()) == 1
    assert "resnet.pth" in errors
    assert not (tmp_path / "out").exists()


def test_convert_refuses_an_existing_file_as_output(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fixtures_dir: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    status, _, errors = run(capsys, "convert", str(fixtures_dir / "original_finetune.pth"), str(tmp_path / "out"))
    assert status == 2 and "is a file" in errors
    assert (tmp_path / "out").read_text() == "mine"


def test_reconstruct_writes_an_image(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(40):
            frame = torch.full((64, 96, 3), index, dtype=torch.uint8).numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    config = hf_videomae.VideoMAEConfig.from_preset("tiny")
    hf_videomae.VideoMAEForPreTraining(config).save_pretrained(tmp_path / "model")
    hf_videomae.VideoMAEVideoProcessor.from_config(config).save_pretrained(tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--output", str(tmp_path / "pictures" / "seen")]
    status, output, _ = run(capsys, "reconstruct", str(tmp_path / "clip.mp4"), *arguments)
    assert status == 0
    assert "masked tokens" in output
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"seen.png", "seen.gif"}

    (tmp_path / "bad.mp4").write_text("no video")
    status, _, errors = run(capsys, "reconstruct", str(tmp_path / "bad.mp4"), *arguments)
    assert status == 2 and "bad.mp4" in errors.strip().splitlines()[-1]


def write_classifier(folder: Path) -> None:
    names = {0: "boxing", 1: "waving"}
    config = hf_videomae.VideoMAEConfig.from_preset("tiny", task="classification", id2label=names)
    hf_videomae.VideoMAEForVideoClassification(config).save_pretrained(folder)
    hf_videomae.VideoMAEVideoProcessor.from_config(config).save_pretrained(folder)


def test_missing_decoder_is_one_line(tmp_path: Path) -> None:
    write_classifier(tmp_path / "model")
    (tmp_path / "clip.mp4").write_bytes(b"any")
    for arguments in (
        ["predict", str(tmp_path / "clip.mp4")],
        ["features", str(tmp_path / "clip.mp4"), "--output_dir", str(tmp_path / "out")],
    ):
        arguments += ["--model", str(tmp_path / "model"), "--device", "cpu"]
        code = "import sys; from hf_videomae.cli import main; sys.modules['torchcodec'] = sys.modules['av'] = None"
        code += f"; main({arguments})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert last.startswith("hf-videomae: error: no video decoder can be loaded here")


def test_predict_and_features_print_their_results(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from hf_videomae.data import MotionSource

    write_classifier(tmp_path / "model")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "good.mp4").write_bytes(MotionSource()[0].video)
    (tmp_path / "clips" / "worse.mp4").write_bytes(b"no video")
    model = ["--model", str(tmp_path / "model"), "--device", "cpu"]
    capsys.readouterr()

    status, output, errors = run(capsys, "predict", str(tmp_path / "clips" / "good.mp4"), *model, "--views", "2x3")
    assert status == 0 and len(output.splitlines()) == 1
    assert "good.mp4" in output and "boxing 0." in output and "waving 0." in output

    status, output, errors = run(capsys, "predict", str(tmp_path / "clips"), *model, "--json", "--top-k", "1")
    good, worse = (json.loads(line) for line in output.splitlines())
    assert status == 1 and "1 of 2 videos could not be decoded" in errors
    assert len(good["predictions"]) == 1 and good["views"] == "1x1" and "error" in worse

    written = ["features", str(tmp_path / "clips"), *model, "--output_dir", str(tmp_path / "out"), "--hop", "4"]
    for count in (1, 0):
        status, output, errors = run(capsys, *written)
        assert status == 1 and f"{count} videos written" in output and "1 of 2 videos" in errors
    status, output, errors = run(capsys, *written, "--layer", "1")
    assert status == 2 and "give another folder" in errors.strip().splitlines()[-1]
    from hf_videomae.inference import load_features

    (features,) = load_features(tmp_path / "out").values()
    assert features.shape[1] == 128

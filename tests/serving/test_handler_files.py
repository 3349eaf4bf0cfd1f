"""Test the files of an endpoint: they serve, and replace no other files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_videomae import predict
from hf_videomae.cli import main
from hf_videomae.serving.endpoint import EndpointHandler, write_endpoint
from tests.helpers.models import save_model

ROOT = Path(__file__).resolve().parents[2]


TOOLKIT = """
import base64, importlib.util, json, sys
for name in ("accelerate", "datasets", "matplotlib"):
    sys.modules[name] = None  # a server has the package without its extras for training
from handler import EndpointHandler
handler = EndpointHandler(".")
for inputs in (base64.b64encode(open(sys.argv[1], "rb").read()).decode(), "http://127.0.0.1/", 3):
    try:
        print(json.dumps(handler({"inputs": inputs, "parameters": {"top_k": 1}})))
    except Exception as error:
        print(json.dumps({"error": str(error)}))
"""


@pytest.mark.integration
def test_written_handler_serves_as_in_the_toolkit(
    model_dir: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["endpoint", str(model_dir)]) == 0
    assert capsys.readouterr().out.split() == [str(model_dir / name) for name in ("handler.py", "requirements.txt")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", TOOLKIT, str(video)]
    done = subprocess.run(command, cwd=model_dir, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    (found,) = predict(model_dir, video, top_k=1)
    assert answers[0][0]["label"] == found.labels[0] and len(answers[0]) == 1
    assert answers[1] == {"error": "bad request: the URL's host is not on the public internet"}
    assert answers[2]["error"].startswith("bad request: inputs must be the video")


def test_existing_files_need_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(tmp_path / "model")
    handler, requirements = write_endpoint(folder, package="hf-videomae @ https://example.org/a.whl")
    assert requirements.read_text() == "hf-videomae @ https://example.org/a.whl\n"
    write_endpoint(folder, package="hf-videomae @ https://example.org/a.whl")  # the same again
    handler.write_text("mine\n")
    with pytest.raises(SystemExit) as stopped:
        main(["endpoint", str(folder)])
    assert stopped.value.code == 2 and "--overwrite replaces it" in capsys.readouterr().err
    assert handler.read_text() == "mine\n" and "https" in requirements.read_text()
    assert main(["endpoint", str(folder), "--overwrite"]) == 0
    assert "EndpointHandler" in handler.read_text() and requirements.read_text().startswith("hf-videomae[av]==")


def test_only_classifiers_get_handler_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no .*config.json; give the folder of a fine-tuned VideoMAE"):
        write_endpoint(tmp_path)
    pretrained = save_model(tmp_path / "pretrained", task="pretraining")
    for serve in (write_endpoint, EndpointHandler):
        with pytest.raises(ValueError, match="classifier"):
            serve(pretrained)
    for text in ("no json", "[]", '{"architectures": "VideoMAEForVideoClassification"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="give the folder of a fine-tuned VideoMAE"):
            write_endpoint(tmp_path)
    assert not (tmp_path / "handler.py").exists()

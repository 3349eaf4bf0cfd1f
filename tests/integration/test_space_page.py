"""Test the page of a Space in a browser, started as `hf-videomae space` writes it, with good and bad videos."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.cli import main
from hf_videomae.data.motion import MotionSource, encode_clip

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PATIENCE = 120_000  # milliseconds


@dataclass
class Served:
    """A running Space."""

    url: str
    process: subprocess.Popen[str]
    log: Path
    uploads: Path


def save_models(folder: Path) -> tuple[str, str]:
    names = {0: "to the left", 1: "to the right", 2: "not at all"}
    fields = {"head_init_scale": 50.0, "id2label": names, "num_hidden_layers": 2}
    config = VideoMAEConfig.from_preset("tiny", task="classification", **fields)
    VideoMAEForVideoClassification(config).save_pretrained(folder / "finetuned")
    VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", num_hidden_layers=1)).save_pretrained(folder / "pre")
    for name in ("finetuned", "pre"):
        VideoMAEVideoProcessor.from_config(config, frame_stride=2).save_pretrained(folder / name)
    return str(folder / "finetuned"), str(folder / "pre")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    pytest.importorskip("gradio", reason="the extra hf-videomae[space] is not installed")
    finetuned, pretrained = save_models(tmp_path)
    folder = tmp_path / "space"
    assert main(["space", str(folder), "--model", finetuned, "--pretrained", pretrained]) == 0
    settings = json.loads((folder / "space.json").read_text()) | {"max_megabytes": 1, "max_seconds": 5}
    (folder / "space.json").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, uploads = tmp_path / "log.txt", tmp_path / "uploads"
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(uploads)}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONPATH", None)  # the copy of the package in the Space is what must run
    with log.open("w") as file:
        command = [sys.executable, str(folder / "app.py")]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while "Running on" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Served(f"http://127.0.0.1:{port}", process, log, uploads)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def photograph(page: Any, name: str) -> None:
    """Save a screenshot to look at, if HF_VIDEOMAE_SCREENSHOTS names a folder."""
    folder = os.environ.get("HF_VIDEOMAE_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def picture(page: Any, place: str) -> str:
    """Return the address of an image that has loaded and is not blank."""
    page.wait_for_function("place => document.querySelector(`${place} img`)?.naturalWidth > 100", arg=place)
    return str(page.locator(f"{place} img").get_attribute("src"))


def drop(page: Any, path: Path) -> None:
    if page.get_by_label("Clear").count():
        page.get_by_label("Clear").first.click()
        page.wait_for_function("!document.querySelector('#status').innerText.trim()")
    page.locator("#video input[type=file]").set_input_files(path)


def status(page: Any, wanted: str) -> str:
    page.wait_for_function("text => document.querySelector('#status').innerText.includes(text)", arg=wanted)
    return str(page.locator("#status").inner_text())


def write_videos(folder: Path) -> None:
    frames = np.concatenate([MotionSource(split="test").frames(number) for number in range(4)])  # 8 s
    (folder / "clip.mp4").write_bytes(encode_clip(frames))
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    (folder / "sound.wav").rename(folder / "sound.mp4")
    (folder / "large.mp4").write_bytes(bytes(3_000_000))


def test_visitor_sees_results_for_good_videos_and_reasons_for_bad_ones(
    served: Served, page: Any, tmp_path: Path
) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    write_videos(tmp_path)
    page.goto(served.url)
    page.locator("#video input[type=file]").wait_for(state="attached")
    photograph(page, "1-empty")

    drop(page, tmp_path / "clip.mp4")
    said = status(page, "looked at")
    assert "The video lasts 8.0 s; only its first 5.0 s were looked at" in said
    first = {place: picture(page, place) for place in ("#chart", "#reasons", "#painting")}
    assert "to the left" in page.locator("#classes").inner_text()
    photograph(page, "2-video")

    slider = page.locator("#ratio input[type=range]")
    slider.focus()
    for _ in range(6):
        slider.press("ArrowLeft")
    page.wait_for_function("old => document.querySelector('#painting img')?.src !== old", arg=first["#painting"])
    assert picture(page, "#painting") != first["#painting"]
    page.locator("#label input").click()
    page.get_by_role("option").nth(1).click()
    page.wait_for_function("old => document.querySelector('#reasons img')?.src !== old", arg=first["#reasons"])
    photograph(page, "3-changed")

    for name, reason in (("text", "not a video file"), ("empty", "empty (0 bytes)"), ("sound", "no video stream")):
        drop(page, tmp_path / f"{name}.mp4")
        said = status(page, "could not be read as a video")
        assert reason in said and str(tmp_path) not in said and "Traceback" not in said
        assert page.locator("#chart img").count() == 0
    photograph(page, "4-bad")
    drop(page, tmp_path / "large.mp4")
    page.get_by_text(re.compile(r"large\.mp4 has \d+ MB, and files up to 1 MB are taken")).wait_for()
    photograph(page, "5-large")
    page.reload()
    drop(page, tmp_path / "clip.mp4")  # it lives on
    status(page, "looked at")

    assert [url for url in requests if not url.startswith((served.url, "data:", "blob:"))] == []
    assert "Traceback" not in served.log.read_text()
    served.process.send_signal(signal.SIGINT)
    served.process.wait(timeout=60)
    assert [path for path in served.uploads.rglob("*") if path.is_file()] == []


def test_page_of_a_pretrained_model_alone_has_no_classes(served: Served, page: Any, tmp_path: Path) -> None:
    """Stop the server of the fixture, and start the page as from a clone."""
    served.process.kill()
    served.process.wait()
    port = served.url.rpartition(":")[2]
    example = Path(__file__).resolve().parents[2] / "examples" / "app.py"
    environment = {**os.environ, "GRADIO_SERVER_PORT": port, "GRADIO_TEMP_DIR": str(served.uploads)}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(example.parents[1])}
    write_videos(tmp_path)
    command = [sys.executable, "-u", str(example), "--pretrained", str(tmp_path / "pre")]
    with (tmp_path / "second.txt").open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while "Running on" not in (tmp_path / "second.txt").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "second.txt").read_text()
            time.sleep(0.1)
        page.goto(served.url)
        page.locator("#video input[type=file]").wait_for(state="attached")
        drop(page, tmp_path / "clip.mp4")
        status(page, "in the middle")
        picture(page, "#painting")
        assert page.locator("#chart").count() == 0 and page.locator("#label").count() == 0
    finally:
        process.kill()
        process.wait()

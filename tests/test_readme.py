"""The README's code runs as it stands there, in order, and prints what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
MARK = "--- next ---"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def write_clip(path: Path, *, num_frames: int = 100) -> None:
    av = pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(num_frames):
            frame = np.full((64, 96, 3), index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_code_prints_what_the_readme_says(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n((?:(?!```).)*)```\n+```text\n(.*?)```", README, flags=re.DOTALL)
    assert len(examples) >= 3
    write_clip(tmp_path / "clip.mp4")
    # In a process of its own: registering Auto classes would reach into the tests that follow.
    script = f"\nprint({MARK!r})\n".join(code for code, _ in examples)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(f"{MARK}\n") == [expected for _, expected in examples]


def test_every_named_target_and_file_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"the README names make {target}"
    for name in re.findall(r"^  ([a-z_]+(?:\.py|/))  ", README, flags=re.MULTILINE):
        assert (ROOT / "hf_videomae" / name).exists(), f"the README names hf_videomae/{name}"
    for recipe in re.findall(r"--recipe ([\w-]+)", README):
        assert (ROOT / "examples" / "recipes" / f"{recipe}.yaml").is_file(), f"the README names the recipe {recipe}"

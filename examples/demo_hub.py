"""Go from a dataset on the Hub to a published classifier that others use without this package, on a local Hub.

    python examples/demo_hub.py                                  # minutes on two CPU cores
    python examples/demo_hub.py --output_dir outputs/demo-hub --keep_serving   # look around afterwards

Needs a clone: the Hub is the tests', a server on loopback that the real clients talk to (python -m tests.local_hub).
The built-in motion videos are written as files, prepared and published as org/motion; streamed from there, a tiny
VideoMAE is pre-trained and published, fine-tuned from the Hub, tested, and published with its card, pictures and
numbers; then a process that never imports hf_videomae loads it by stock transformers and is tested on the same videos.
The exit code is 1 where stock's accuracy is further than 5 points from ours. Everything stays in --output_dir.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATASET, PRETRAINED, FINETUNED = "org/motion", "org/videomae-tiny-motion", "org/videomae-tiny-motion-finetuned"
MARKER_FILE = ".demo-hub"
"""In a folder that this script made, and may empty."""
TOLERANCE = 0.05
STOP_TIMEOUT = 60.0
"""Seconds that a program has to end when it is told to; a training saves a checkpoint."""


class DemoError(Exception):
    """What ends the demo, in one line."""


# The Hub and the programs.


@contextmanager
def run_local_hub(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Hub within the block; yield the environment for its clients."""
    command = [
        sys.executable,
        "-m",
        "tests.local_hub",
        "--folder",
        str(folder / "hub"),
        "--home",
        str(folder / "home"),
    ]
    # Out of reach of Ctrl-C: the programs may still have something to say to it. It ends with its input.
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            line = server.stdout.readline()
            if not line:
                raise DemoError("the Hub did not start; it has said why")
            yield _environment(json.loads(line))
        finally:
            server.stdin.close()


def _environment(hub: dict[str, str | None]) -> dict[str, str]:
    """Return this environment with the Hub's variables; programs import the package of this clone."""
    kept = {name: value for name, value in os.environ.items() if name not in hub}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, **{name: value for name, value in hub.items() if value is not None}, "PYTHONPATH": path}


def run(*command: object, capture: bool = False) -> str:
    """Run a Python program in this environment, and return its output if it is captured.

    Raises:
        DemoError: when it fails; it has said why.
    """
    words = [str(word) for word in command]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    process = subprocess.Popen([sys.executable, *words], text=True, stdout=subprocess.PIPE if capture else None)
    try:
        output, _ = process.communicate()
    finally:
        if process.returncode is None:  # interrupted
            _stop_process(process)
    if process.returncode:
        raise DemoError(f"{words[0]} ended with exit code {process.returncode}")
    return output or ""


def _stop_process(process: subprocess.Popen[str]) -> None:
    """Stop a program that outlives this one: Ctrl-C reached it as well, SIGTERM did not."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    if process.poll() is None:
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_TIMEOUT)
    process.kill()
    process.wait()


# The steps. The clients of the Hub read where it is when they are imported: not before it is there.


def write_videos(folder: Path, *, train: int, test: int) -> Path:
    """Write the built-in motion videos as files, in split and class folders."""
    from hf_videomae.data import MotionSource

    for split, count in (("train", train), ("test", test)):
        source = MotionSource(split=split, num_videos=count)
        assert source.class_names is not None
        for index in range(count):
            sample = source[index]
            file = folder / split / source.class_names[index % len(source.class_names)] / f"{index:04d}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(sample.video)
    print(f"{train} + {test} videos written to {folder}", flush=True)
    return folder


def publish_dataset(arguments: argparse.Namespace, folder: Path) -> None:
    """Publish the files as org/motion."""
    videos = write_videos(folder / "videos", train=arguments.train_videos, test=arguments.test_videos)
    # The videos are small and smooth already: no smaller, and nearly without loss.
    options = ["--short_side", 64, "--crf", 12, "--license", "apache-2.0"]
    run("-m", "hf_videomae.cli", "prepare", videos, folder / "set", *options, "--push_to_hub", DATASET)


def train(arguments: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Train both models on org/motion; the second starts from the first, which its run publishes."""
    pretrained, finetuned = folder / "pretrained", folder / "finetuned"
    shared = ["--dataset", DATASET, "--seed", arguments.seed, "--num_workers", arguments.num_workers, "--push_to_hub"]
    script, options = "examples/pretrain.py", ["--recipe", "tiny", "--max_steps", arguments.pretrain_steps]
    run(ROOT / script, *options, *shared, "--hub_model_id", PRETRAINED, "--output_dir", pretrained)
    script, options = "examples/finetune.py", ["--recipe", "tiny-finetune", "--max_steps", arguments.finetune_steps]
    options += ["--model", PRETRAINED]
    run(ROOT / script, *options, *shared, "--hub_model_id", FINETUNED, "--output_dir", finetuned)
    return pretrained, finetuned


def test(arguments: argparse.Namespace, finetuned: Path) -> float:
    """Measure our accuracy, which is published too, on one view of each video, as the stock pipeline takes."""
    options = ["--model", finetuned, "--dataset", DATASET, "--split", "test", "--views", "1x1", "--antialias"]
    options += ["--num_workers", arguments.num_workers, "--output_dir", finetuned]
    run(ROOT / "examples/evaluate.py", *options)
    run("-m", "hf_videomae.cli", "push", finetuned, "--hub_model_id", FINETUNED)
    return float(json.loads((finetuned / "evaluation.json").read_text(encoding="utf-8"))["metrics"]["top1"])


def test_stock() -> dict[str, float]:
    """Measure the accuracy of stock transformers, by each way of loading.

    Raises:
        DemoError: where the process has imported something of ours: it would prove nothing.
    """
    options = ["--model", FINETUNED, "--dataset", DATASET, "--split", "test"]
    output = run(ROOT / "examples/stock_accuracy.py", *options, capture=True)
    found = json.loads(output.splitlines()[-1])
    print(output.splitlines()[-1], flush=True)
    if found["imported_of_ours"]:
        raise DemoError(f"the stock process imported {', '.join(found['imported_of_ours'])}")
    return {way: right / found["videos"] for way, right in found["right"].items()}


# What came of it.


def print_published() -> None:
    """Print the files, the commits and the head of each card, as the Hub has them."""
    from huggingface_hub import HfApi

    api = HfApi()
    for name, kind in ((DATASET, "dataset"), (PRETRAINED, "model"), (FINETUNED, "model")):
        files = api.list_repo_files(name, repo_type=kind)
        commits = [commit.title for commit in api.list_repo_commits(name, repo_type=kind)]
        shown = [file for file in files if not file.startswith(("data/", "."))]
        shards = sum(file.startswith("data/") for file in files)
        print(
            f"\n{name} ({kind})\n  files    {', '.join([*shown, *([f'{shards} shards in data/'] if shards else [])])}"
        )
        print(f"  commits  {'; '.join(commits)}")
    card = Path(api.hf_hub_download(FINETUNED, "README.md")).read_text(encoding="utf-8")
    print(f"\nThe card of {FINETUNED}:\n")
    print("\n".join(f"  {line}" for line in card_excerpt(card)))


def card_excerpt(card: str) -> list[str]:
    """Return the title and the evaluation of a model card."""
    lines = card.partition("\n---\n")[2].strip().splitlines()
    heads = [place for place, line in enumerate(lines) if line.startswith("## Evaluation")]
    return [*lines[:3], *(["", *lines[heads[0] : heads[0] + 10]] if heads else [])]


def print_accuracies(ours: float, stock: dict[str, float]) -> None:
    """Print the table of accuracies.

    Raises:
        DemoError: where stock is further than the tolerance from ours.
    """
    rows = {"examples/evaluate.py": ours, "stock AutoModelForVideoClassification": stock["model"]}
    rows["stock pipeline"] = stock["pipeline"]
    print(f"\n| top-1 accuracy of {FINETUNED} on the test videos | |\n|---|---|")
    print("\n".join(f"| {name} | {value:.3f} |" for name, value in rows.items()), flush=True)
    far = [way for way, value in stock.items() if abs(value - ours) > TOLERANCE]
    if far:
        raise DemoError(f"stock's {' and '.join(far)} is more than {100 * TOLERANCE:.0f} points from {ours:.3f}")


def run_demo(arguments: argparse.Namespace, folder: Path) -> None:
    """Run every step of the demo against a running Hub."""
    began = time.monotonic()
    publish_dataset(arguments, folder)
    pretrained, finetuned = train(arguments, folder)
    ours, stock = test(arguments, finetuned), test_stock()
    print_published()
    print_accuracies(ours, stock)
    files = [path for run in (pretrained, finetuned) for path in sorted(run.iterdir())]
    pictures = [path for path in files if path.suffix in (".png", ".gif")]
    print(f"\ndone in {time.monotonic() - began:.0f} s; as published, the cards and the pictures:")
    cards = [folder / "hub" / "models" / name / "README.md" for name in (PRETRAINED, FINETUNED)]
    print("\n".join(map(str, [*cards, *pictures])), flush=True)


def make_empty_folder(folder: Path) -> Path:
    """Create an empty folder, or empty one that an earlier demo made.

    Raises:
        DemoError: where somebody else's files are in it.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER_FILE).is_file():
            raise DemoError(f"{folder} holds files that are not of this demo; give another --output_dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER_FILE).touch()
    return folder


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo-hub"), help="default: %(default)s")
    numbers = {"train_videos": 1024, "test_videos": 256, "pretrain_steps": 1300, "finetune_steps": 400}
    for name, default in {**numbers, "num_workers": 1, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--keep_serving", action="store_true", help="in the end, serve on until Enter is pressed")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Show it; returns the exit code: 0, 1 where something failed, or 128 + the signal that stopped it."""
    settings = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        folder = make_empty_folder(settings.output_dir)
        with run_local_hub(folder) as environment:
            os.environ.clear()
            os.environ.update(environment)
            run_demo(settings, folder)
            if settings.keep_serving:
                input(f"\nHF_ENDPOINT={environment['HF_ENDPOINT']} HF_TOKEN={environment['HF_TOKEN']}; Enter ends it ")
    except DemoError as error:
        print(f"demo_hub.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())

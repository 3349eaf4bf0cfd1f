"""Test the guides: their Python runs, their commands parse, and the files and targets they name exist."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_videomae.cli import _parser as command_parser
from tests.helpers.scripts import load_script

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
RECIPES = EXAMPLES / "recipes"
TROUBLESHOOTING = EXAMPLES / "TROUBLESHOOTING.md"
PAGES = [
    ROOT / "README.md",
    *sorted(EXAMPLES.rglob("*.md")),
    *sorted((ROOT / "hf_videomae").rglob("*.md")),
    ROOT / "model_cards" / "README.md",
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
MARK = "--- next ---"
VARYING_OUTPUT = "<!-- output: the numbers differ -->"
MAX_LINES = {"README.md": 200}
CONTENTS_FROM = 100  # lines: about two screens

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_lines(text: str) -> list[str]:
    """Return the lines outside of code blocks."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines()


# Python.


def python_examples(text: str) -> list[tuple[str, str | None, bool]]:
    """Return (code, the output below it or None, whether the output is exact) of each Python block."""
    pattern = rf"```python\n((?:(?!```).)*)```(?:\n+({re.escape(VARYING_OUTPUT)}\n)?```text\n(.*?)```)?"
    return [
        (code, expected or None, not varying) for code, varying, expected in re.findall(pattern, text, flags=re.DOTALL)
    ]


def write_clip(path: Path, *, num_frames: int = 100) -> None:
    av = pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(num_frames):
            frame = np.full((64, 96, 3), index % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_what_examples_name(folder: Path) -> None:
    """Write the videos and models of the guides, small, under their names in the guides."""
    from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification
    from hf_videomae import VideoMAEVideoProcessor as Processor

    for name in ("clip.mp4", "folder/clip.mp4", "videos/test/grow/006.mp4"):
        write_clip(folder / name)
    write_clip(folder / "long.mp4", num_frames=300)
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_labels=8)
    pretrained = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny"))
    for name in ("org/my-finetuned", "outputs/finetuned"):
        VideoMAEForVideoClassification(config).save_pretrained(folder / name)
        Processor.from_config(config, frame_stride=2).save_pretrained(folder / name)
    for name in ("org/my-videomae", "outputs/pretrained"):
        pretrained.save_pretrained(folder / name)
        Processor.from_config(pretrained.config, frame_stride=2).save_pretrained(folder / name)


PAGES_WITH_PYTHON = [page for page in PAGES if python_examples(read(page))]


@pytest.mark.integration
@pytest.mark.parametrize("page", PAGES_WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    examples = python_examples(read(page))
    write_what_examples_name(tmp_path)
    # In a process of its own: registering Auto classes would reach into the tests that follow.
    script = f"\nprint({MARK!r})\n".join(code for code, _, _ in examples)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for printed, (_, expected, is_exact) in zip(done.stdout.split(f"{MARK}\n"), examples, strict=True):
        if expected is not None and is_exact:
            assert printed == expected
        elif expected is not None:
            assert len(printed.splitlines()) == len(expected.splitlines())


def test_most_python_shows_its_output() -> None:
    examples = [example for page in PAGES for example in python_examples(read(page))]
    assert len(examples) >= 7 and sum(expected is not None for _, expected, _ in examples) >= 5


@each_page
def test_python_uses_public_names(page: Path) -> None:
    for code, _, _ in python_examples(read(page)):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hf_videomae":
                assert not [alias.name for alias in node.names if alias.name.startswith("_")]
            if isinstance(node, ast.Attribute):
                assert not re.match(r"_[^_]", node.attr), f"{page.name} uses {node.attr}"


# Commands.


def commands(text: str) -> list[list[str]]:
    """Return the command lines of a page as words: those of bash blocks, and of console blocks after the prompt."""
    lines: list[str] = []
    for language, block in re.findall(r"```(bash|console)\n(.*?)```", text, flags=re.DOTALL):
        block = block.replace("\\\n", " ")
        lines += [
            line.removeprefix("$ ") for line in block.splitlines() if language == "bash" or line.startswith("$ ")
        ]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@cache
def recipe_class(script: str) -> Any:
    """Return the class of the settings of a script of `examples/`."""
    from hf_videomae.training import FinetuneRecipe, PretrainRecipe

    names = {
        "evaluate": "EvaluationRecipe",
        "probe": "ProbeRecipe",
        "compare_motion": "MotionComparison",
        "compare_ut_interaction": "InteractionComparison",
    }
    known = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe}
    return known[script] if script in known else getattr(load_script(EXAMPLES / f"{script}.py"), names[script])


def check_script(words: list[str]) -> None:
    """Parse the flags of a script with its own parser, recipes and checks of values included."""
    from hf_videomae.training import parse_recipe

    script, *arguments = words
    assert (ROOT / script).is_file(), f"there is no {script}"
    if script.startswith("examples/benchmarks/"):
        source = read(ROOT / script)
        assert all(f'"{word}"' in source for word in arguments if word.startswith("--")), words
        return
    if script == "examples/app.py":
        source = read(ROOT / "hf_videomae/serving/space_app.py")  # it needs gradio: it is read, not imported
        assert all(f"\n    {word[2:]}: " in source for word in arguments if word.startswith("--")), words
        return
    # What is resumed lies nowhere, and the Hub is not asked.
    line = re.sub(r"--resume( (?!--)\S+)?", "", shlex.join(arguments))
    parse_recipe(recipe_class(Path(script).stem), shlex.split(line), folder=RECIPES)


def check_launch(words: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch"
    script = next(place for place, word in enumerate(words) if word.endswith(".py"))
    parsed = launch_command_parser().parse_args([*words[1:script], "script.py"])
    assert parsed.config_file is None or (ROOT / parsed.config_file).is_file()
    check_script(words[script:])


def check_command(words: list[str]) -> None:
    """Parse `hf-videomae ...`; a redirection ends it."""
    end = next((place for place, word in enumerate(words) if word == ">"), len(words))
    parsed, rest = command_parser().parse_known_args(words[:end])
    assert parsed.command and not rest, f"hf-videomae {words[0]} has no {rest}"


def check_make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    variables = [word.partition("=")[0] for word in words if "=" in word]
    assert all(re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE) for target in targets), targets
    assert all(re.search(rf"^{name} \?=", MAKEFILE, flags=re.MULTILINE) for name in variables), variables
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if targets == ["pretrain"]:
        check_script(["examples/pretrain.py", "--dataset", given["DATASET"], *shlex.split(given["ARGS"])])


def check_pip(words: list[str]) -> None:
    """Check that the extras exist, and that torch and torchcodec are the Makefile's pair."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[0] == "install"
    for word in words[1:]:
        assert set(re.findall(r"\w+", (re.findall(r"\[(.*)\]", word) or [""])[0])) <= extras.keys(), word
        if re.match(r"torch(codec)?==", word):
            assert re.search(rf"^TORCH \?=.*{re.escape(word)}\b", MAKEFILE, flags=re.MULTILINE), word


def check_hf(words: list[str]) -> None:
    assert words[0] in ("auth", "repos", "upload"), f"hf {words[0]} is not known here"


CHECKS = {
    "python": check_script,
    "accelerate": check_launch,
    "hf": check_hf,
    "hf-videomae": check_command,
    "make": check_make,
    "pip": check_pip,
}


@each_page
def test_commands_parse_with_the_real_flags(page: Path) -> None:
    for words in commands(read(page)):
        try:
            CHECKS[words[0]](words[1:])
        except SystemExit as refused:
            assert refused.code == 0, f"{page.name}: {shlex.join(words)} is refused"


@each_page
def test_commands_in_sentences_exist(page: Path) -> None:
    subcommands = command_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for code in re.findall(r"`([^`\n]+)`", "\n".join(prose_lines(read(page)))):
        words = code.split()
        if words[0] == "hf-videomae" and len(words) > 1:
            assert words[1] in subcommands, f"{page.name} names {code}"
        if words[0] == "pip":
            check_pip(shlex.split(code)[1:])


def test_flags_in_sentences_exist() -> None:
    known = set(re.findall(r"--\w+", " ".join(_all_help())))
    elsewhere = {"--shm-size", "--FIELD", "--index-url"}
    for page in PAGES:
        for line in prose_lines(read(page)):
            named = {flag for code in re.findall(r"`([^`]+)`", line) for flag in re.findall(r"--[\w-]+", code)}
            assert named <= known | elsewhere, f"{page.name} names {named - known - elsewhere}"


def _all_help() -> Iterator[str]:
    from hf_videomae.training.recipe_cli import build_parser

    for parser in command_parser()._subparsers._group_actions[0].choices.values():  # type: ignore[union-attr]
        yield parser.format_help()
    for script in ("pretrain", "finetune", "evaluate", "probe", "compare_motion", "compare_ut_interaction"):
        yield build_parser(recipe_class(script)).format_help()


# What pages name.


@each_page
def test_named_files_recipes_and_targets_exist(page: Path) -> None:
    text = read(page)
    for target in set(re.findall(r"\bmake\s([a-z-]+)`", text)):
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE), f"{page.name} names make {target}"
    for recipe in re.findall(r"--recipe ([\w-]+)", text):
        assert (RECIPES / f"{recipe}.yaml").is_file(), f"{page.name} names the recipe {recipe}"
    for path in re.findall(r"`((?:examples|hf_videomae|tests|model_cards)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
    if page.parent.name == "prepare":
        for name in re.findall(r"`(\w+\.py)`", text):
            assert (page.parent / name).is_file(), f"{page.name} names {name}"


def test_map_names_every_module_and_package() -> None:
    package = ROOT / "hf_videomae"
    named = set(re.findall(r"`(\w+(?:\.py|/))`", read(package / "README.md")))
    heads = set(package.glob("modeling_*.py")) - {package / "modeling_videomae.py"}  # the map names their pattern
    modules = {path.name for path in set(package.glob("[!_]*.py")) - heads}
    packages = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    folders = {"examples/", "model_cards/", "tests/", "parity/", "integration/", "local_hub/"}
    assert named == modules | packages | folders


@each_page
def test_dotted_names_can_be_imported(page: Path) -> None:
    for dotted in set(re.findall(r"\bhf_videomae(?:\.\w+)+", read(page))):
        if dotted.endswith(".whl"):
            continue
        value: Any = importlib.import_module("hf_videomae")
        for depth, name in enumerate(dotted.split(".")[1:], start=2):
            module = ".".join(dotted.split(".")[:depth])
            if not hasattr(value, name) and hasattr(value, "__path__") and importlib.util.find_spec(module):
                importlib.import_module(module)
            assert hasattr(value, name), f"{dotted} is not there: {name}"
            value = getattr(value, name)


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(page: Path, level: str = "#{1,6}") -> list[str]:
    return [
        match[1] for line in prose_lines(read(page)) if (match := re.fullmatch(rf"{level} (.+)", line)) is not None
    ]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", " ".join(prose_lines(read(page)))):
        if link.startswith("https://"):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if fragment:
            assert fragment in [anchor(heading) for heading in headings(target)], f"{page.name} links to {link}"


@each_page
def test_long_pages_have_a_table_of_contents(page: Path) -> None:
    lines = read(page).splitlines()
    assert len(lines) <= MAX_LINES.get(page.name if page.parent == ROOT else "", 1000)
    contents = re.search(r"^Contents: (.*?)\n\n", read(page), flags=re.DOTALL | re.MULTILINE)
    if contents is None:
        assert len(lines) < CONTENTS_FROM, f"{page.name} is longer than two screens and has no table of contents"
        return
    entries = re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", contents[1].replace("\n", " "))
    assert entries == [(heading, anchor(heading)) for heading in headings(page, "##")]


@each_page
def test_lines_are_short(page: Path) -> None:
    long = [line for line in prose_lines(read(page)) if len(line) > 120 and not line.startswith("|")]
    assert not long, long[0]


def test_reconstruction_picture_is_small() -> None:
    assert (EXAMPLES / "images" / "reconstruction.png").stat().st_size < 200_000


def test_recipe_tables_are_those_of_the_recipes() -> None:
    """`make cards` renders them."""
    render = load_script(RECIPES / "render.py")
    page = read(RECIPES / "README.md")
    assert page == render.update_page(page, render.render_tables()), "run make cards"
    assert page.count(".yaml)") == len(list(RECIPES.glob("*.yaml")))


# The page of messages.


def package_texts() -> str:
    """Return every text of the package, with gaps in formatted ones, and the Makefile."""
    texts = [MAKEFILE]
    for path in (ROOT / "hf_videomae").rglob("*.py"):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_messages_of_the_troubleshooting_page_exist() -> None:
    rows = re.findall(r"^\| (`.*?) \| ", read(TROUBLESHOOTING), flags=re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) >= 15
    texts = package_texts()
    named = {"libcudart", "libnvrtc", "import torchcodec", "VideoDecodeError"}  # of others, or a class
    gone = [message for message in messages if message not in named and message not in texts]
    assert not gone, f"no message of the package says {gone} any more: give what it says now"


def test_doctor_names_the_troubleshooting_page() -> None:
    from hf_videomae.doctor import diagnose, to_table
    from tests.helpers.machines import HEALTHY, machine

    assert "examples/TROUBLESHOOTING.md" not in to_table(diagnose(HEALTHY))
    broken = machine(packages={"numpy": None})
    assert "examples/TROUBLESHOOTING.md" in to_table(diagnose(broken))

"""Test the rules of the code base: import order, cheap imports, public names, lengths and words."""

import ast
import functools
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hf_videomae"

# From the lowest level up: a module or package may import those before it in this list, and its own. `ops` and `video`
# depend on nothing else.
ORDER = [
    "_version",
    "_dependencies",
    "_check_dependencies",
    "errors",
    "text",
    "credentials",
    "redaction",
    "filesystem",
    "stop_signals",
    "provenance",
    "run_files",
    "folder_lock",
    "config_validation",
    "ops",
    "video",
    "console",
    "checkpoint_checksums",
    "checkpoint_dir",
    "configuration_videomae",
    "strict_loading",
    "modeling_videomae",
    # Heads in files of their own.
    *sorted({path.stem for path in PACKAGE.glob("modeling_*.py")} - {"modeling_videomae"}),
    "video_processing_videomae",
    "hub",
    "cards",
    "data",
    "prepare",
    "convert",
    "auto",
    "inference",
    "evaluation",
    "publishing",
    "training",
    "serving",
    "doctor",
    "cli",
]
LEVELS = {name: level for level, name in enumerate(ORDER)}
# The one import that goes up: `handler.py` files in published repositories name this module.
UPWARD = {("hub/endpoint.py", "serving")}
HEAVY = ("torch", "transformers", "datasets", "accelerate", "torchcodec", "numpy", "PIL", "matplotlib", "av")
FORBIDDEN = {"torchvision", "decord", "einops", "timm", "cv2"}

# Words that the package no longer uses: British spelling, and turns of phrase that a newcomer has to decode.
BANNED_WORDS = re.compile(
    r"licence|colour|centre|behaviour|labelled|normalis|cancelled|grey|(?<!--)neighbour"
    r"|\b(anew|mend(s|ed|ing)?|whoever|told of|goes on|for people|where there is|in one voice)\b",
    flags=re.IGNORECASE,
)

SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [*sorted((ROOT / "examples").rglob("*.py")), ROOT / "model_cards" / "render.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (absolute module, names taken from it) for every import of a file, also those within functions."""
    package = ["hf_videomae", *path.relative_to(PACKAGE).parts[:-1]] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *filter(None, [node.module])]), [alias.name for alias in node.names]


def packages_imported(path: Path) -> set[str]:
    """Return the modules and packages directly in hf_videomae that a file imports."""
    import hf_videomae

    packages = set()
    for module, names in imported_modules(path):
        if module == "hf_videomae":
            packages |= {hf_videomae._HOMES.get(name, name) for name in names if name != "__version__"}
        elif module.startswith("hf_videomae."):
            packages.add(module.split(".")[1])
    return packages


def test_every_package_has_a_place_in_the_order() -> None:
    packages = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES} - {"__init__"}
    assert packages <= LEVELS.keys(), f"add {sorted(packages - LEVELS.keys())} to ORDER"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        pytest.skip("the package itself only lists its parts")
    for other in packages_imported(path) - {own}:
        is_listed = (path.relative_to(PACKAGE).as_posix(), other) in UPWARD
        assert LEVELS[other] < LEVELS[own] or is_listed, f"{own} imports {other}, which is on a higher level"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples_use_public_names(path: Path) -> None:
    for module, names in imported_modules(path):
        if module.split(".")[0] == "hf_videomae":
            private = [name for name in [*module.split("."), *names] if name.startswith("_")]
            assert not private, f"{path.name} takes {private} from {module}"


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_forbidden_libraries(path: Path) -> None:
    roots = {module.split(".")[0] for module, _ in imported_modules(path)}
    # A benchmark may load the library that it measures against, if it is installed.
    measured = {"decord"} if path.parent.name == "benchmarks" else set()
    assert not roots & (FORBIDDEN - measured)


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("modeling_*.py")), ids=lambda path: path.name)
def test_modeling_files_keep_annotations_as_classes(path: Path) -> None:
    # `config: VideoMAEConfig` becomes config_class; as a string it breaks AutoModel.register and from_pretrained.
    assert "__future__" not in {module for module, _ in imported_modules(path)}


def test_no_handler_catches_everything() -> None:
    for path in [*SOURCES, *SCRIPTS, *TESTS]:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "BaseException"
                raised_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                everything = re.search(r"\b(Base)?Exception\b", caught)
                assert raised_again or not everything, f"{path.name}:{node.lineno} catches all"


def test_no_pickle_is_trusted() -> None:
    for path in [*SOURCES, *SCRIPTS]:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.keyword) and node.arg in ("weights_only", "trust_remote_code"):
                value = getattr(node.value, "value", None)
                assert value is (node.arg == "weights_only"), f"{path.name}: {node.arg}={ast.unparse(node.value)}"


def test_functions_and_files_stay_short() -> None:
    too_long = set()
    for path in [*SOURCES, *SCRIPTS, *TESTS]:
        place = path.relative_to(ROOT).as_posix()
        if len(path.read_text(encoding="utf-8").splitlines()) > 600:
            too_long.add(place)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _num_lines(node) > 60:
                too_long.add(f"{place}:{node.name}")
    assert not too_long, "a file over 600 lines is about two subjects, a function over 60 does two things"


def _num_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from its `def` to its end, with signature and docstring."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _prose(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the identifiers, comments and docstrings of a file, each with its line."""
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type in (tokenize.NAME, tokenize.COMMENT):
                yield token.string.replace("_", " "), token.start[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield " ".join(docstring.split()), getattr(node, "lineno", 1)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_package_is_written_in_plain_american_english(path: Path) -> None:
    found = [
        f"line {line}: {match[0]}" for text, line in _prose(path) for match in [BANNED_WORDS.search(text)] if match
    ]
    assert not found


def test_public_classes_have_names_of_their_own() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path.relative_to(PACKAGE).as_posix())
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_modules_have_names_of_their_own() -> None:
    names = Counter(path.stem for path in SOURCES if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def test_modules_import_each_other_in_one_direction() -> None:
    graph = {_module_name(path): set(_modules_used(path)) for path in SOURCES if path.stem != "__init__"}
    waiting = dict(graph)
    while free := [name for name, used in waiting.items() if not used & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert sorted(waiting) == [], "these modules import each other in a circle, or import such modules"


def _module_name(path: Path) -> str:
    return ".".join(["hf_videomae", *path.relative_to(PACKAGE).with_suffix("").parts])


def _modules_used(path: Path) -> Iterator[str]:
    for module, names in imported_modules(path):
        yield module
        yield from (f"{module}.{name}" for name in names)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, hf_videomae; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_public_names_load_and_are_listed() -> None:
    import hf_videomae

    for name in hf_videomae.__all__:
        assert getattr(hf_videomae, name) is not None
        assert name in dir(hf_videomae)
    with pytest.raises(AttributeError, match="VideoMAEForActionDetection"):
        _ = hf_videomae.VideoMAEForActionDetection


def test_importing_the_models_leaves_the_auto_classes_alone() -> None:
    code = (
        "import hf_videomae; hf_videomae.VideoMAEForPreTraining; from transformers import AutoConfig;"
        "print(type(AutoConfig.for_model('videomae')).__module__.split('.')[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "transformers"

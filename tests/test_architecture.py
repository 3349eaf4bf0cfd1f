"""The house rules that a reader relies on: imports go downward, importing the package is free, examples are public."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hf_videomae"

# From the bottom up: a module or package may import those above it in this list, and its own. `ops` and `video` know
# nothing of the rest.
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
FLOORS = {name: floor for floor, name in enumerate(ORDER)}
# The one import that goes up: `handler.py` files in published repositories name this module.
UPWARD = {("hub/endpoint.py", "serving")}
HEAVY = ("torch", "transformers", "datasets", "accelerate", "torchcodec", "numpy", "PIL", "matplotlib", "av")
FORBIDDEN = {"torchvision", "decord", "einops", "timm", "cv2"}

SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [*sorted((ROOT / "examples").rglob("*.py")), ROOT / "model_cards" / "render.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(absolute module, names taken from it) of every import of a file, the lazy ones within functions too."""
    package = ["hf_videomae", *path.relative_to(PACKAGE).parts[:-1]] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *filter(None, [node.module])]), [alias.name for alias in node.names]


def room_of(module: str) -> str:
    return module.split(".")[1]


def rooms_imported(path: Path) -> set[str]:
    rooms = set()
    for module, names in imported_modules(path):
        if module == "hf_videomae":
            homes = {name: home for name, home in public_homes().items()}
            rooms |= {homes.get(name, name) for name in names if name != "__version__"}
        elif module.startswith("hf_videomae."):
            rooms.add(room_of(module))
    return rooms


def public_homes() -> dict[str, str]:
    import hf_videomae

    return hf_videomae._HOMES


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES} - {"__init__"}
    assert rooms <= FLOORS.keys(), f"say in FLOORS where {sorted(rooms - FLOORS.keys())} stands"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        pytest.skip("the package itself only names its parts")
    for other in rooms_imported(path) - {own}:
        is_listed = (path.relative_to(PACKAGE).as_posix(), other) in UPWARD
        assert FLOORS[other] < FLOORS[own] or is_listed, f"{own} imports {other}, which stands above it"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples_use_public_names(path: Path) -> None:
    for module, names in imported_modules(path):
        if module.split(".")[0] == "hf_videomae":
            private = [name for name in [*module.split("."), *names] if name.startswith("_")]
            assert not private, f"{path.name} takes {private} from {module}"


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_forbidden_libraries(path: Path) -> None:
    roots = {module.split(".")[0] for module, _ in imported_modules(path)}
    # A benchmark may load what it measures against, where that is installed.
    measured = {"decord"} if path.parent.name == "benchmarks" else set()
    assert not roots & (FORBIDDEN - measured)


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("modeling_*.py")), ids=lambda path: path.name)
def test_modeling_files_keep_annotations_as_classes(path: Path) -> None:
    # `config: VideoMAEConfig` becomes config_class; as a string it breaks AutoModel.register and from_pretrained.
    assert "__future__" not in {module for module, _ in imported_modules(path)}


def test_nothing_is_swallowed() -> None:
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


def test_functions_and_files_stay_readable() -> None:
    for path in [*SOURCES, *SCRIPTS, *TESTS]:
        tree = tree_of(path)
        long = [
            f"{path.name}:{node.name}"
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _code_lines(node) > 60
        ]
        assert not long
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert num_lines <= 620, f"{path.name} has {num_lines} lines: it is about two subjects"


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function below its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return (node.end_lineno or node.lineno) - body[0].lineno + 1


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

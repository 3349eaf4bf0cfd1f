"""Load scripts of the project as modules, and run them in this process."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_script(path: Path) -> ModuleType:
    """Return a new module of a script; its folder is searched for imports, as when it is run."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(f"{path.stem}_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their types there
    spec.loader.exec_module(module)
    return module


def run_example(name: str, *arguments: object) -> int:
    """Run `examples/NAME.py` in this process, and return its exit code."""
    try:
        return load_script(ROOT / "examples" / f"{name}.py").main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code  # type: ignore[return-value]

"""Print the lowest versions that pyproject.toml allows, as constraints for pip: `python tests/lowest_versions.py`."""

import re
import tomllib
from pathlib import Path

# What the tests and the linters need is not what users install.
_TOOLS = ("dev", "space")


def lowest_versions(pyproject: Path) -> list[str]:
    """Return a line `name==version` for each requirement with a lower bound, without those of the tools."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [line for name, group in extras.items() if name not in _TOOLS for line in group]
    found = [re.match(r"([\w.-]+)>=([\w.]+)", line) for line in lines]
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    print("\n".join(lowest_versions(Path(__file__).resolve().parents[1] / "pyproject.toml")))

"""Make the scripts of `examples/` importable, as they are to each other when one is run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

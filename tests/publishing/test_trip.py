"""Test that README.md names the functions that a checkpoint passes on its way to the Hub, where they are."""

import re
from pathlib import Path

import hf_videomae

PACKAGE = Path(hf_videomae.__file__).parent


def test_readme_names_the_way_of_a_checkpoint() -> None:
    text, file = (PACKAGE / "publishing" / "README.md").read_text(), ""
    rows = re.findall(r"^\| \d+ \| `(\w+)` \|(?: `([\w/.]+)`)? \|", text, flags=re.MULTILINE)
    assert len(rows) == 15
    for function, named in rows:
        file = named or file
        assert f"def {function}(" in (PACKAGE / file).read_text(), f"{function} is not in {file}"

"""Write the tables of README.md in this folder from the `about:` blocks of the recipes (`make cards` runs it).

    python examples/recipes/render.py

Only what stands between the two marks is replaced; the prose around it is edited by hand.
"""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
START, END = "<!-- tables: make cards -->", "<!-- end of the tables -->"
GROUPS = {
    "tiny compare ut": "Demos and comparisons",
    "one small": "One GPU",
    "v1": "VideoMAE",
    "v2": "VideoMAE V2",
}


def render_tables(folder: Path = FOLDER) -> str:
    """Return a table for each group of recipes, in Markdown."""
    abouts = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["about"] for path in folder.glob("*.yaml")}
    tables = []
    for prefixes, title in GROUPS.items():
        names = sorted(name for name in abouts if name.partition("-")[0] in prefixes.split())
        rows = [_render_row(name, abouts.pop(name)) for name in names]
        tables.append(f"## {title}\n\n| recipe | hardware | cost | reaches |\n|---|---|---|---|\n" + "\n".join(rows))
    if abouts:
        raise ValueError(f"no group has the recipe {min(abouts)}; add its prefix to GROUPS")
    return "\n\n".join(tables)


def _render_row(name: str, about: dict[str, Any]) -> str:
    cells = [" ".join(str(about[key]).split()).replace("|", r"\|") for key in ("title", "hardware", "cost", "reaches")]
    return f"| [{name}]({name}.yaml): {cells[0]} | {cells[1]} | {cells[2]} | {cells[3]} |"


def update_page(text: str, tables: str) -> str:
    """Return the page with new tables between its marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{tables}\n\n{END}{after}"


if __name__ == "__main__":
    page = FOLDER / "README.md"
    page.write_text(update_page(page.read_text(encoding="utf-8"), render_tables()), encoding="utf-8")

"""Record where the settings, data and model of a run come from, in `run.json` and for the model card."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards import resolve_dataset_lineage, resolve_model_lineage
from ..cards.lineage import find_cached_commit
from ..checkpoint_dir import find_checkpoint, read_state
from ..configuration_videomae import PRESETS
from ..errors import RunError
from ..run_files import RUN_FILE, read_json
from .hub_checkpoints import is_hub_resume
from .recipe import AUTO, RunRecipe

if TYPE_CHECKING:
    from ..data.source import AnyData, AnySource

LINEAGE_KEY = "origins"
"""Their key in `run_state.json`."""

_LINEAGE_FIELDS = ("recipe_name", "recipe_flags", "parents")


def collect_run_metadata(recipe: RunRecipe, *, config: Any, source: "AnyData") -> dict[str, Any]:
    """Return recipe, data and parents for `run.json`. It may ask the Hub, so call it once, in one process.

    A resumed run keeps the recipe and parents that it recorded when it started: the Hub may have changed since.

    Args:
        recipe: settings of the run.
        config: configuration of the model; it may hold the commit that it was loaded from.
        source: the data.

    Returns:
        `recipe_name` (value of `--recipe`), `recipe_flags` (names of the other flags), `data` and `parents`.
    """
    before = _previous_run_record(recipe)
    name, flags = parse_recipe_flags(sys.argv[1:])
    return {
        "recipe_name": name or before.get("recipe_name"),
        "recipe_flags": sorted({*flags, *before.get("recipe_flags", ())}),
        "data": collect_data_metadata(recipe, source),
        "parents": _parents(recipe, config, before),
    }


def parse_recipe_flags(words: Sequence[str]) -> tuple[str | None, set[str]]:
    """Return the value of `--recipe` and the names of the other flags of a command line."""
    name, flags = None, set()
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if not flag.startswith("--"):
            continue
        flag = flag.removeprefix("--").replace("-", "_")
        if flag != "recipe":
            flags.add(flag)
        elif equals or index + 1 < len(words):
            name = value if equals else words[index + 1]
    return name, flags


def collect_data_metadata(recipe: RunRecipe, source: "AnyData") -> dict[str, Any]:
    """Return what `run.json` says about the data: name, split, number of videos, commit and license."""
    from ..data import Mixture, num_videos

    names = recipe.as_dict()["dataset"]
    metadata = {"dataset": names, "split": recipe.split, "name": source.name, "videos": num_videos(source)}
    if not isinstance(source, Mixture):
        return {**metadata, **_data_lineage(recipe.dataset_name, source)}
    parts = zip(names, source.parts, source.shares, strict=True)
    mix = [
        {"dataset": name, "name": part.name, "share": share, "videos": num_videos(part), **_data_lineage(name, part)}
        for name, part, share in parts
    ]
    return {**metadata, "mix": mix}


def _data_lineage(name: str, source: "AnySource") -> dict[str, Any]:
    from ..data.open import BUILT_IN

    return {} if name == BUILT_IN else resolve_dataset_lineage(name, commit=getattr(source, "revision", None))


def _parents(recipe: RunRecipe, config: Any, before: dict[str, Any]) -> list[dict[str, Any]]:
    if recipe.model in PRESETS:
        return []
    known: list[dict[str, Any]] = before.get("parents") or []
    is_resolved = not any("unknown" in parent for parent in known)
    if [parent.get("model") for parent in known] == [recipe.model] and is_resolved:
        return known
    # Older releases of transformers store the commit in the configuration.
    commit = getattr(config, "_commit_hash", None) or find_cached_commit(recipe.model)
    return [resolve_model_lineage(recipe.model, commit=commit)]


def lineage_fields(run_metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that checkpoints store, because a run that is resumed elsewhere cannot find it again."""
    return {name: run_metadata[name] for name in _LINEAGE_FIELDS if name in run_metadata}


def _previous_run_record(recipe: RunRecipe) -> dict[str, Any]:
    """Return what the run recorded before it was interrupted, here or on another machine; empty for a new run."""
    path = Path(recipe.output_dir) / RUN_FILE
    if path.is_file():
        return read_json(path, remedy="move it away or give another --output_dir", kind=RunError)
    if recipe.resume is None:
        return {}
    # A checkpoint of the Hub has been downloaded to the output folder by now.
    resume = AUTO if is_hub_resume(recipe.resume) else recipe.resume
    checkpoint = find_checkpoint(resume, output_dir=recipe.output_dir)
    return {} if checkpoint is None else dict(read_state(checkpoint).get(LINEAGE_KEY, {}))

"""The YAML header of a card: reading it, writing it, and a check of its names that needs no network.

The Hub's own check is a request; its client alone takes any tag. The names that the Hub knows are in `names.json`,
with where they come from.
"""

import difflib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_NAMES_FILE = Path(__file__).with_name("names.json")
_UNKNOWN = "unknown"
_LISTS = ("pipeline_tags", "libraries", "licences", "size_categories")
OTHER = "other"
"""The Hub's name for any licence that it has none for."""


def to_yaml(**fields: Any) -> str:
    """The header of these fields of `huggingface_hub.ModelCardData`, without those that are empty."""
    from huggingface_hub import ModelCardData

    return str(ModelCardData(**{name: value for name, value in fields.items() if value}).to_yaml())


def read_header(text: str) -> dict[str, Any]:
    """The fields of a card's header.

    Raises:
        ValueError: in one line, where it is not YAML.
    """
    import yaml
    from huggingface_hub import RepoCard

    try:
        return dict(RepoCard(text, ignore_metadata_errors=True).data.to_dict())
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the header is not YAML: {' '.join(str(error).split())}") from error


def header_of(text: str) -> dict[str, Any]:
    """The fields of the header of a card that somebody wrote; none where there is none that can be read."""
    try:
        return read_header(text) if text.lstrip().startswith("---") else {}
    except ValueError:
        return {}


def licence_in(fields: Mapping[str, Any]) -> str | None:
    """What a header says the licence is; of several one without commercial use, and None where there is none such."""
    named = fields.get("license")
    names = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]
    names = [name for name in names if name != _UNKNOWN]
    if len(names) > 1:
        names = [name for name in names if is_non_commercial(name)]
    if names[:1] == [OTHER] and isinstance(fields.get("license_name"), str):
        return str(fields["license_name"])
    return names[0] if names else None


def is_non_commercial(licence: str) -> bool:
    """Whether the name of a licence says so."""
    name = licence.lower().replace("-", "").replace("_", "")
    return "-nc" in licence.lower() or "noncommercial" in name


def licence_fields(licence: str | None) -> dict[str, str]:
    """The licence in a header: one that the Hub does not know is `other`, with its name beside."""
    if not licence:
        return {}
    known = licence.lower()
    return {"license": known} if known in hub_names()["licences"] else {"license": OTHER, "license_name": licence}


def check_licence(licence: str) -> str:
    """A licence that a user typed, as the Hub spells it.

    Raises:
        ValueError: for one that the Hub does not know.
    """
    known = hub_names()["licences"]
    if licence.lower() in known:
        return licence.lower()
    close = difflib.get_close_matches(licence.lower(), sorted(known), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "give for example cc-by-4.0, apache-2.0 or other"
    raise ValueError(f"{licence!r} is no licence that the Hub knows; {hint}")


@cache
def hub_names() -> Mapping[str, frozenset[str]]:
    """`pipeline_tags` (of data sets `task_categories`), `libraries`, `licences`, `size_categories` of the Hub."""
    found = json.loads(_NAMES_FILE.read_text(encoding="utf-8"))
    return {key: frozenset(found[key]) for key in _LISTS}


def check_header(fields: Mapping[str, Any]) -> list[str]:
    """What is wrong in the fields that cards of models and of data share: a line for each problem."""
    return [*_licence_problems(fields), *_id_problems(fields)]


def unknown_names(fields: Mapping[str, Any], key: str, *, known: str) -> list[str]:
    """A line for each value of a field that is not on that list of the Hub's names."""
    values = fields.get(key)
    return [
        f"{key} {value!r} is not one that the Hub knows"
        for value in (values if isinstance(values, list) else [values])
        if value not in hub_names()[known]
    ]


def _licence_problems(fields: Mapping[str, Any]) -> list[str]:
    if fields.get("license") is None:
        return []
    problems = unknown_names(fields, "license", known="licences")
    if fields["license"] == OTHER and not fields.get("license_name"):
        problems.append("the license is other; say which in license_name")
    return problems


def _id_problems(fields: Mapping[str, Any]) -> list[str]:
    problems = []
    for key in ("base_model", "datasets", "source_datasets"):
        values = fields.get(key) or []
        for value in [values] if isinstance(values, str) else values:
            if not isinstance(value, str) or value.startswith((".", "/")) or value.count("/") > 1:
                problems.append(f"{key} {value!r} is no name of a repository (org/name)")
    return problems

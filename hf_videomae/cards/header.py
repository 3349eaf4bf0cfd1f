"""The YAML header of a card: reading it, writing it, and a check of its names that needs no network.

The Hub's own check is a request; its client alone takes any tag. The names that the Hub knows are in `hub_names.json`,
with where they come from.
"""

import difflib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_HUB_NAMES_FILE = Path(__file__).with_name("hub_names.json")
_UNKNOWN_LICENSE = "unknown"
_NAME_LISTS = ("pipeline_tags", "libraries", "licenses", "size_categories")
OTHER_LICENSE = "other"
"""The Hub's name for any licence that it has none for."""


def to_yaml(**fields: Any) -> str:
    """The header of these fields of `huggingface_hub.ModelCardData`, without those that are empty."""
    from huggingface_hub import ModelCardData

    return str(ModelCardData(**{name: value for name, value in fields.items() if value}).to_yaml())


def parse_header(text: str) -> dict[str, Any]:
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


def parse_header_or_empty(text: str) -> dict[str, Any]:
    """The fields of the header of a card that somebody wrote; none where there is none that can be read."""
    try:
        return parse_header(text) if text.lstrip().startswith("---") else {}
    except ValueError:
        return {}


def license_from_header(fields: Mapping[str, Any]) -> str | None:
    """What a header says the licence is; of several one without commercial use, and None where there is none such."""
    named = fields.get("license")
    names = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]
    names = [name for name in names if name != _UNKNOWN_LICENSE]
    if len(names) > 1:
        names = [name for name in names if is_non_commercial(name)]
    if names[:1] == [OTHER_LICENSE] and isinstance(fields.get("license_name"), str):
        return str(fields["license_name"])
    return names[0] if names else None


def is_non_commercial(license: str) -> bool:
    """Whether the name of a licence says so."""
    name = license.lower().replace("-", "").replace("_", "")
    return "-nc" in license.lower() or "noncommercial" in name


def license_header_fields(license: str | None) -> dict[str, str]:
    """The licence in a header: one that the Hub does not know is `other`, with its name beside."""
    if not license:
        return {}
    known = license.lower()
    return (
        {"license": known}
        if known in load_hub_names()["licenses"]
        else {"license": OTHER_LICENSE, "license_name": license}
    )


def normalize_license(license: str) -> str:
    """A licence that a user typed, as the Hub spells it.

    Raises:
        ValueError: for one that the Hub does not know.
    """
    known = load_hub_names()["licenses"]
    if license.lower() in known:
        return license.lower()
    similar = difflib.get_close_matches(license.lower(), sorted(known), n=3)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "give for example cc-by-4.0, apache-2.0 or other"
    raise ValueError(f"{license!r} is no licence that the Hub knows; {hint}")


@cache
def load_hub_names() -> Mapping[str, frozenset[str]]:
    """`pipeline_tags` (of data sets `task_categories`), `libraries`, `licences`, `size_categories` of the Hub."""
    found = json.loads(_HUB_NAMES_FILE.read_text(encoding="utf-8"))
    return {key: frozenset(found[key]) for key in _NAME_LISTS}


def check_header(fields: Mapping[str, Any]) -> list[str]:
    """What is wrong in the fields that cards of models and of data share: a line for each problem."""
    return [*_license_problems(fields), *_id_problems(fields)]


def find_unknown_names(fields: Mapping[str, Any], key: str, *, known: str) -> list[str]:
    """A line for each value of a field that is not on that list of the Hub's names."""
    values = fields.get(key)
    return [
        f"{key} {value!r} is not one that the Hub knows"
        for value in (values if isinstance(values, list) else [values])
        if value not in load_hub_names()[known]
    ]


def _license_problems(fields: Mapping[str, Any]) -> list[str]:
    if fields.get("license") is None:
        return []
    problems = find_unknown_names(fields, "license", known="licenses")
    if fields["license"] == OTHER_LICENSE and not fields.get("license_name"):
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

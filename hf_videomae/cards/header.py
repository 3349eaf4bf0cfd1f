"""Read, write and check the YAML header of a card without the network.

The Hub checks a header only when it is asked over the network, and its client takes any tag. So the names that the Hub
knows are in `hub_names.json`, with their source.
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
"""The Hub's name for every license that it has no name for."""


def to_yaml(**fields: Any) -> str:
    """Return fields of `huggingface_hub.ModelCardData` as YAML, without those that are empty."""
    from huggingface_hub import ModelCardData

    return str(ModelCardData(**{name: value for name, value in fields.items() if value}).to_yaml())


def parse_header(text: str) -> dict[str, Any]:
    """Return the fields of a card's header.

    Raises:
        ValueError: in one line, if it is not YAML.
    """
    import yaml
    from huggingface_hub import RepoCard

    try:
        return dict(RepoCard(text, ignore_metadata_errors=True).data.to_dict())
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the header is not YAML: {' '.join(str(error).split())}") from error


def parse_header_or_empty(text: str) -> dict[str, Any]:
    """Return the fields of a card's header; empty if it has no header or an unreadable one."""
    try:
        return parse_header(text) if text.lstrip().startswith("---") else {}
    except ValueError:
        return {}


def license_from_header(fields: Mapping[str, Any]) -> str | None:
    """Return the license in a header, or None; of several licenses, the first non-commercial one, or None."""
    value = fields.get("license")
    names = [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
    names = [name for name in names if name != _UNKNOWN_LICENSE]
    if len(names) > 1:
        names = [name for name in names if is_non_commercial(name)]
    if names[:1] == [OTHER_LICENSE] and isinstance(fields.get("license_name"), str):
        return str(fields["license_name"])
    return names[0] if names else None


def is_non_commercial(license: str) -> bool:
    """Return whether the name of a license says that it is non-commercial."""
    name = license.lower().replace("-", "").replace("_", "")
    return "-nc" in license.lower() or "noncommercial" in name


def license_header_fields(license: str | None) -> dict[str, str]:
    """Return the header fields of a license; one that the Hub does not know is `other` with a `license_name`."""
    if not license:
        return {}
    if license.lower() in load_hub_names()["licenses"]:
        return {"license": license.lower()}
    return {"license": OTHER_LICENSE, "license_name": license}


def normalize_license(license: str) -> str:
    """Return a license that a user typed in the Hub's spelling.

    Raises:
        ValueError: for a license that the Hub does not know.
    """
    known = load_hub_names()["licenses"]
    if license.lower() in known:
        return license.lower()
    similar = difflib.get_close_matches(license.lower(), sorted(known), n=3)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "give for example cc-by-4.0, apache-2.0 or other"
    raise ValueError(f"{license!r} is not a license that the Hub knows; {hint}")


@cache
def load_hub_names() -> Mapping[str, frozenset[str]]:
    """Read the Hub's `pipeline_tags` (for datasets: task categories), `libraries`, `licenses`, `size_categories`."""
    names = json.loads(_HUB_NAMES_FILE.read_text(encoding="utf-8"))
    return {key: frozenset(names[key]) for key in _NAME_LISTS}


def check_header(fields: Mapping[str, Any]) -> list[str]:
    """Return the problems of the fields that cards of models and of datasets share, one line each."""
    return [*_license_problems(fields), *_id_problems(fields)]


def find_unknown_names(fields: Mapping[str, Any], key: str, *, known: str) -> list[str]:
    """Return a line for each value of a field that is not in the list `known` of `load_hub_names`."""
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
                problems.append(f"{key} {value!r} is not the name of a repository (org/name)")
    return problems

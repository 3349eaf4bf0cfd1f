"""Find the classes of one dataset among those of another: by name, never by number."""

import difflib
import re
import reprlib
from collections.abc import Sequence

# One class in Kinetics-710, whose names differ between Kinetics-400, 600 and 700 (VideoMAE V2's repository,
# misc/k710_identical_label_merge.json).
KINETICS_710_NAMES = {
    "changing wheel": "changing wheel (not on bike)",
    "garbage collecting": "person collecting garbage",
    "balloon blowing": "inflating balloons",
    "tying tie": "tying necktie",
    "making bed": "making the bed",
    "opening bottle": "opening bottle (not wine)",
    "hugging": "hugging (not baby)",
    "dying hair": "dyeing hair",
    "throwing ball": "throwing ball (not baseball or American football)",
    "cooking sausages": "cooking sausages (not on barbeque)",
    "picking fruit": "picking apples",
    "skiing (not slalom or crosscountry)": "skiing mono",
    "drinking": "sipping cup",
    "sniffing": "smelling feet",
}
_SHOWN = 5
_SHORT = reprlib.Repr()
_SHORT.maxstring = 80


def normalize_class_name(name: str) -> str:
    """Return a class name without case, spaces and punctuation; unchanged if nothing else is left."""
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def format_names(names: Sequence[str]) -> str:
    """Return the first names for a message."""
    shown = ", ".join(map(_SHORT.repr, names[:_SHOWN]))
    return f"{shown}, ..." if len(names) > _SHOWN else shown


def has_placeholder_names(names: Sequence[str]) -> bool:
    """Return whether all names are the placeholders that transformers gives to classes."""
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def find_class_rows(wanted: Sequence[str], known: Sequence[str], *, owner: str) -> list[int]:
    """Return the row of each wanted class among the known ones.

    Case, spaces and punctuation are ignored. Among the 710 classes of Kinetics-710 a name of Kinetics-400, 600 or
    700 finds the class that it was merged into.

    Args:
        wanted: classes to find.
        known: classes of a classifier, in the order of its rows.
        owner: name of the classifier, for messages.

    Raises:
        ValueError: naming the classes that are not found, or found twice.
    """
    if has_placeholder_names(known):
        raise ValueError(
            f"the classes of {owner} have no names (LABEL_0 to LABEL_{len(known) - 1}), so none can be found by name: "
            f"convert it with --id2label FILE, which names them in their order (for VideoMAE V2's Kinetics-710 "
            f"misc/label_map_k710.txt of its repository)"
        )
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(known):
        rows.setdefault(normalize_class_name(name), []).append(number)
    if len(known) == 710:
        for name, merged in KINETICS_710_NAMES.items():
            rows.setdefault(normalize_class_name(name), rows.get(normalize_class_name(merged), []))
    missing = [name for name in wanted if not rows.get(normalize_class_name(name))]
    if missing:
        candidates = [name for name, rows_found in rows.items() if rows_found]
        close = difflib.get_close_matches(normalize_class_name(missing[0]), candidates, n=1, cutoff=0.6)
        nearest = (
            f"; the nearest to {_SHORT.repr(missing[0])} is {_SHORT.repr(known[rows[close[0]][0]])}" if close else ""
        )
        raise ValueError(
            f"{len(missing)} of {len(wanted)} classes are none of the {len(known)} of {owner}: "
            f"{format_names(missing)}{nearest}. Rename them to the model's names"
        )
    found = [rows[normalize_class_name(name)] for name in wanted]
    ambiguous = [
        name
        for name, rows_found in zip(wanted, found, strict=True)
        if len(rows_found) > 1 or found.count(rows_found) > 1
    ]
    if ambiguous:
        raise ValueError(
            f"{format_names(ambiguous)} are ambiguous among the classes of {owner}: their names differ in case or "
            f"punctuation alone, or belong to one class; rename or merge them"
        )
    return [rows_found[0] for rows_found in found]

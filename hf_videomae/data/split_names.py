"""Normalize the names of splits: `train`, `validation`, `test`."""

SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "validate", "valid", "val", "dev", "devel"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}


def normalize_split(text: str) -> str:
    """Return `train`, `validation` or `test` for any of their names, in any case; any other text stripped."""
    text = text.strip()
    return next((name for name, names in SPLIT_NAMES.items() if text.lower() in names), text)

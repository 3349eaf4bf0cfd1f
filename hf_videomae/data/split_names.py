"""What people call the splits of a data set."""

SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "validate", "valid", "val", "dev", "devel"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}


def normalize_split(text: str) -> str:
    """Return `train`, `validation` or `test` for their names in any case, and any other text without blanks around."""
    text = text.strip()
    return next((name for name, names in SPLIT_NAMES.items() if text.lower() in names), text)

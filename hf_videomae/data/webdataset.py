"""Read WebDataset with `datasets`, but without its decoders, so that only the wanted members are decoded.

`datasets` decodes every member of every sample. It fails on a class in words (`0001.cls` with `walk`), on JSON files
with different keys, and on a format whose package is not installed.
"""

from collections.abc import Callable
from typing import Any

from datasets.packaged_modules.webdataset.webdataset import WebDataset


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class UndecodedWebDataset(WebDataset):  # type: ignore[misc]
    """A WebDataset reader that keeps texts as texts and everything else as bytes."""

    DECODERS: dict[str, Callable[[Any], Any]] = dict.fromkeys(
        ("txt", "text", "transcript", "cls", "cls2", "index", "inx", "id", "json", "jsn", "label", "class"),
        _decode_text,
    )


def disable_decoders(builder: Any) -> None:
    """Stop a builder of `datasets` from decoding members, unless the dataset's card gives their types."""
    if isinstance(builder, WebDataset) and builder.info.features is None:
        # The decoders are an attribute of the class, and its methods are class methods.
        builder.__class__ = UndecodedWebDataset

"""WebDataset by `datasets`, without its decoders: members stay what they are until they are asked for.

`datasets` decodes every member of every sample, wanted or not. A class in words (`0001.cls` with `walk`) ends it, as
does JSON whose keys differ, or a format whose package is not installed.
"""

from collections.abc import Callable
from typing import Any

from datasets.packaged_modules.webdataset.webdataset import WebDataset


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class UndecodedWebDataset(WebDataset):  # type: ignore[misc]
    """Texts as texts, everything else as bytes."""

    DECODERS: dict[str, Callable[[Any], Any]] = dict.fromkeys(
        ("txt", "text", "transcript", "cls", "cls2", "index", "inx", "id", "json", "jsn", "label", "class"),
        _decode_text,
    )


def disable_decoders(builder: Any) -> None:
    """Keep a builder of `datasets` from decoding members, unless the data set's card says what they are."""
    if isinstance(builder, WebDataset) and builder.info.features is None:
        # The decoders are an attribute of the class, and its methods are class methods.
        builder.__class__ = UndecodedWebDataset

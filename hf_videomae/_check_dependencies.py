"""Check at import, before transformers is imported, that the packages load that transformers imports by itself."""

from ._dependencies import check_torchvision

check_torchvision()

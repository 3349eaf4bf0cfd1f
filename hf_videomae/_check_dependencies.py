"""Check, by being imported before transformers is, that what transformers imports by itself loads at all."""

from ._dependencies import check_torchvision

check_torchvision()

"""Compute with tensors alone: patches and positions, masks, losses. No files, no model."""

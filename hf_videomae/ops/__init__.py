"""Pure tensor arithmetic: cubes and positions, masks, losses. No files, no model."""

"""Hold what the comparison scripts share and the package does not need: baselines, tables and charts."""

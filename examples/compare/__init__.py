"""Share what the comparison scripts need and the package does not: stages, baselines, tables and figures."""

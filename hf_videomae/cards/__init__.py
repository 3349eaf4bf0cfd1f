"""Build cards of models and datasets: text, YAML header, license, lineage, and nothing private."""

from ..hub.repo import is_hub_id
from .escaping import code_span, escape_markdown, escape_to_one_line
from .header import check_header, parse_header_or_empty, to_yaml
from .license import Ancestor, License, LicenseError, inherit_license, known_checkpoint_license
from .lineage import resolve_dataset_lineage, resolve_model_lineage
from .markdown import (
    CardError,
    is_unedited,
    section,
    table,
    with_checksum,
    write_readme,
)

__all__ = [
    "Ancestor",
    "CardError",
    "check_header",
    "code_span",
    "escape_markdown",
    "escape_to_one_line",
    "inherit_license",
    "is_hub_id",
    "is_unedited",
    "known_checkpoint_license",
    "License",
    "LicenseError",
    "parse_header_or_empty",
    "resolve_dataset_lineage",
    "resolve_model_lineage",
    "section",
    "table",
    "to_yaml",
    "with_checksum",
    "write_readme",
]

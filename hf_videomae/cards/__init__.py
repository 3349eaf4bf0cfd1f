"""What cards of models and of data are made of alike: sections, headers, licences, origins, nothing private."""

from .document import CardError, is_untouched, section, signed, table, write_card_file
from .escaping import code_span, one_line, plain
from .header import check_header, header_of, to_yaml
from .licences import Licence, LicenceError, Origin, inherited_licence, known_licence
from .origins import data_origin, is_hub_id, model_origin
from .scrubbing import public_command, public_path, public_text, public_values

__all__ = [
    "CardError",
    "Licence",
    "LicenceError",
    "Origin",
    "check_header",
    "code_span",
    "data_origin",
    "header_of",
    "inherited_licence",
    "is_hub_id",
    "is_untouched",
    "known_licence",
    "model_origin",
    "one_line",
    "plain",
    "public_command",
    "public_path",
    "public_text",
    "public_values",
    "section",
    "signed",
    "table",
    "to_yaml",
    "write_card_file",
]

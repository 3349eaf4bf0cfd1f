"""Write the two files with which Inference Endpoints serves a model folder."""

import json
from pathlib import Path

from ... import __version__
from ...cards.snippets import CLASSIFIER_CLASS, HANDLER_FILE, HANDLER_MARK, REQUIREMENTS_FILE
from ...publishing.requirement_line import check_requirement_line
from ...run_files import write_atomic

DEFAULT_REQUIREMENT = f"hf-videomae[av]=={__version__}"

_HANDLER_SOURCE = f'''\
"""Serves this model on Inference Endpoints (choose the task Custom there). {HANDLER_MARK}.

Other limits: subclass it, and give `super().__init__(path, settings=EndpointSettings(...))`.
"""

from hf_videomae.serving.endpoint import EndpointHandler

__all__ = ["EndpointHandler"]
'''


def write_endpoint(folder: str | Path, *, package: str = DEFAULT_REQUIREMENT, overwrite: bool = False) -> list[Path]:
    """Write `handler.py` and `requirements.txt` into the folder of a fine-tuned model.

    Args:
        folder: the folder of the model.
        package: where pip finds this package, as a line of a requirements file.
        overwrite: also replace files of these names with other content.

    Returns:
        The files.

    Raises:
        ValueError: when the folder holds no fine-tuned VideoMAE, or other files of these names, or `package` contains
            credentials.
    """
    folder = Path(folder)
    _check_classifier(folder / "config.json")
    package = check_requirement_line(package)
    texts = {folder / HANDLER_FILE: _HANDLER_SOURCE, folder / REQUIREMENTS_FILE: f"{package}\n"}
    for path, text in texts.items():
        if not overwrite and path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise ValueError(f"{path} exists with other content; --overwrite replaces it")
    for path, text in texts.items():
        write_atomic(path, text)
    return list(texts)


def _check_classifier(path: Path) -> None:
    remedy = "give the folder of a fine-tuned VideoMAE"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no {path}; {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON; {remedy}") from error
    architectures = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(architectures, list) or CLASSIFIER_CLASS not in architectures:
        raise ValueError(f"{path} is not the configuration of a classifier ({architectures}); {remedy}")

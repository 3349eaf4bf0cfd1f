"""Find the model that `--model` names: a local checkpoint, or one of the Hub, which is downloaded."""

from pathlib import Path

from ..configuration_videomae import PRESETS
from ..errors import RunError
from ..hub.download import download_model
from ..run_files import read_json


def ensure_model(name: str) -> str:
    """Validate `--model`, download it if it is on the Hub, and return it.

    Raises:
        RunError: for anything else.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise RunError(
                f"--model {name}: the directory holds no config.json, so it is not a checkpoint; give one that "
                f"save_pretrained wrote"
            )
        remedy = "give a directory that save_pretrained wrote"
        model_type = read_json(folder / "config.json", remedy=remedy, kind=RunError).get("model_type")
        if model_type != "videomae":
            raise RunError(f"--model {name}: this is a checkpoint of another model ({model_type}), not of VideoMAE")
    elif "/" not in name or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise RunError(f"--model {name}: neither a preset ({', '.join(PRESETS)}) nor a directory nor org/name")
    else:
        download_model(name)
    return name

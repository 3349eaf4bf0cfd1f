"""Read weights, configuration and origin of a checkpoint file, folder or Hub repository; unpickle only tensors."""

import argparse
import json
import pickle
import re
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cards import is_hub_id, known_checkpoint_license, parse_header_or_empty
from ..cards.header import license_from_header
from ..errors import first_line
from ..filesystem import sha256_of
from ..hub.retry import NOT_THE_HUB

StateDict = dict[str, Tensor]

_TORCH_MAGIC = (b"PK", b"\x80\x02")  # a zip archive, and the bare pickle of torch before 1.6
# What torch.load raises for a file that is damaged or not a checkpoint.
_READ_ERRORS = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip
_MAX_KEY_LENGTH = 120
_WRAPPERS = ("model", "module", "state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.(safetensors|bin)$")
_HUB_METADATA_FILES = ["config.json", "preprocessor_config.json", "video_preprocessor_config.json", "README.md"]
_HUB_SAFETENSORS = ["model.safetensors", "model-*-of-*.safetensors", _INDEXES[0]]
_HUB_PICKLES = ["pytorch_model.bin", "pytorch_model-*-of-*.bin", _INDEXES[1]]


@dataclass(frozen=True, kw_only=True)
class SourceCheckpoint:
    """A checkpoint as read from its source.

    Attributes:
        name: what the user gave: a path or a Hub id.
        weights: tensors by name, without prefixes that DDP, compile and wrappers add.
        config: its `config.json`; empty if there is none.
        preprocessor: its `preprocessor_config.json`; empty if there is none.
        training: the training arguments that the original code saves with the weights.
        left_out: names of other entries of the file that hold weights, such as `model_ema`.
        folder: the folder with its configuration; None for a file alone.
        hashes: SHA-256 of the weight files, by name.
        license: the license identifier in its model card.
        revision: the commit, for a Hub id.
    """

    name: str
    weights: StateDict
    config: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    training: argparse.Namespace | None = None
    left_out: tuple[str, ...] = ()
    folder: Path | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    license: str | None = None
    revision: str | None = None


def read_checkpoint_source(source: str, *, revision: str | None = None) -> SourceCheckpoint:
    """Return the weights, configuration and origin of a checkpoint of any supported kind.

    Args:
        source: a file (`.pth`, `.pt`, `.bin`, `.safetensors`), a folder that holds one, or `org/name` on the Hub.
        revision: branch, tag or commit on the Hub.

    Raises:
        ValueError: for a source that is missing, unreadable or incomplete, or holds objects other than tensors.
    """
    path, commit = Path(source), None
    if path.exists() and revision is not None:
        raise ValueError(f"{source} is local, and revision {revision} is for a Hub repository: leave it out")
    if not path.exists():
        path, commit = _download(source, revision)
    folder = path if path.is_dir() else path.parent
    files = _find_weight_files(path) if path.is_dir() else [_reject_single_shard(path)]
    # A single .pth file has no configuration, whatever else its folder holds.
    has_config = path.is_dir() or path.name in _SINGLE_FILES
    weights, training, left_out = read_weights(files, name=source)
    return SourceCheckpoint(
        name=source,
        weights=weights,
        training=training,
        left_out=left_out,
        config=read_optional_json(folder / "config.json") if has_config else {},
        preprocessor=read_optional_json(folder / "preprocessor_config.json") if has_config else {},
        folder=folder if has_config else None,
        hashes={file.name: sha256_of(file) for file in files},
        license=_read_license(folder / "README.md") if has_config else None,
        revision=commit,
    )


def read_weights(files: list[Path], *, name: str) -> tuple[StateDict, argparse.Namespace | None, tuple[str, ...]]:
    """Return all tensors of one checkpoint, the training arguments, and the names of other entries with weights.

    Raises:
        ValueError: for a file that cannot be read, or holds no tensors.
    """
    content: dict[str, Any] = {}
    for file in files:
        part = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
        content |= part if isinstance(part, dict) else {}
    training = content.get("args")
    if isinstance(training, dict) and all(isinstance(key, str) for key in training):
        training = argparse.Namespace(**training)  # as vars(args)
    left_out: tuple[str, ...] = ()
    wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
    if wrapper is not None:
        left_out = tuple(truncate_key(key) for key, part in content.items() if key != wrapper and _is_state_dict(part))
        content = content[wrapper]
    _check_entries(content, name=name, num_bytes=sum(file.stat().st_size for file in files))
    weights = _without_prefixes(content)
    if not weights:
        raise ValueError(
            f"{name} holds no weights ({describe_first_keys(content)}): give the file that holds the model"
        )
    return weights, training if isinstance(training, argparse.Namespace) else None, left_out


def _is_state_dict(part: Any) -> bool:
    return isinstance(part, dict) and bool(part) and all(isinstance(value, Tensor) for value in part.values())


def describe_first_keys(content: dict[str, Any]) -> str:
    """Return what a file begins with, for messages."""
    return f"it begins with {', '.join(map(truncate_key, list(content)[:3])) or 'nothing'}"


def truncate_key(name: object) -> str:
    """Return a name from a file on one line and cut to a sensible length."""
    text = " ".join(str(name).split())
    return text if len(text) <= _MAX_KEY_LENGTH else f"{text[:_MAX_KEY_LENGTH]}..."


def _check_entries(content: dict[str, Any], *, name: str, num_bytes: int) -> None:
    """Check that weights have names and are plain floating-point tensors no larger than the file.

    Raises:
        ValueError: naming the first bad one.
    """
    for key, value in content.items():
        if not isinstance(value, Tensor):
            continue
        if not isinstance(key, str):
            raise ValueError(
                f"{name} names its weights by {type(key).__name__} ({truncate_key(key)}), not by text: give a state "
                f"dict, as model.state_dict() makes it"
            )
        if value.layout != torch.strided or value.is_meta:
            problem = "holds no values (it is on the meta device)" if value.is_meta else "is a sparse tensor"
            raise ValueError(f"{name}: {truncate_key(key)} {problem}: save the weights of the model as plain tensors")
        if key.endswith(("weight", "bias")) and not value.is_floating_point():
            raise ValueError(
                f"{name}: {truncate_key(key)} holds {str(value.dtype).removeprefix('torch.')} (quantized?): save the "
                f"weights of the model as floating-point numbers"
            )
        if value.numel() * value.element_size() > num_bytes:
            raise ValueError(
                f"{name}: {truncate_key(key)} has {value.numel()} values of shape {truncate_key(list(value.shape))}, "
                f"more than a file of {num_bytes} bytes can hold: it is not a checkpoint of a model"
            )


def _reject_single_shard(path: Path) -> Path:
    shard = _SHARD.search(path.name)
    if shard:
        raise ValueError(
            f"{path} is part {int(shard[1])} of {int(shard[2])} of a sharded checkpoint: give its folder, "
            f"{path.parent}, with all parts and the index"
        )
    return path


def _find_weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a folder: a single file, or all shards of its index."""
    for name, index in zip(_SINGLE_FILES, _INDEXES, strict=True):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / index).is_file():
            return _find_shards(folder, folder / index)
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if any(_SHARD.search(path.name) for path in files):
        raise ValueError(f"{folder} holds shards without their index: add {' or '.join(_INDEXES)}")
    if len(files) == 1:
        return files
    if files:
        names = ", ".join(path.name for path in files)
        raise ValueError(f"{folder} holds several files of weights ({names}): give one of them")
    raise ValueError(
        f"{folder} holds no weights: looked for {' or '.join(_SINGLE_FILES)} and for one {', '.join(_SUFFIXES)}"
    )


def _find_shards(folder: Path, index: Path) -> list[Path]:
    names = read_optional_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} names no shards: download it again")
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index} names a shard by something other than text: download it again")
    files = [folder / Path(name).name for name in sorted(set(names.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"{index} names {len(files)} shards, which lie beside it; missing: {', '.join(missing)}: download them"
        )
    return files


def _download(source: str, revision: str | None) -> tuple[Path, str]:
    """Download weights and configuration of a Hub repository, but no code; safetensors rather than pickles."""
    if not is_hub_id(source) or source.endswith(_SUFFIXES):
        raise ValueError(
            f"there is no checkpoint file at {source}: give a .pth or .safetensors file, a folder, or org/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        for weights in (_HUB_SAFETENSORS, _HUB_PICKLES):
            patterns = [*_HUB_METADATA_FILES, *weights]
            folder = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
            if any((folder / name).is_file() for name in (*_SINGLE_FILES, *_INDEXES)):
                return folder, folder.name
    except GatedRepoError as error:
        raise ValueError(f"{source} is gated: accept its terms on its page, then log in") from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{source} is not a local file or folder, and the Hub cannot be reached to look for it"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise ValueError(
            f"{source} is not a local file or folder, and the Hub does not give it ({status}): "
            f"check the name and the revision, and log in if it is private"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{source}: {NOT_THE_HUB} ({error}); check the network (a proxy or login page) and HF_ENDPOINT, or give a "
            f"local folder"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(
            f"{source} did not come whole ({first_line(error)}); check the network (a proxy may answer for "
            f"the Hub), then try again"
        ) from error
    raise ValueError(f"{source} on the Hub holds neither {' nor '.join((*_SINGLE_FILES, *_INDEXES))}")


def read_optional_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def _read_license(card: Path) -> str | None:
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    fields = parse_header_or_empty(text)
    base_models = fields.get("base_model") or []
    names = [base_models] if isinstance(base_models, str) else base_models
    inherited = (known_checkpoint_license(str(name)) for name in names)
    return license_from_header(fields) or next(filter(None, inherited), None)


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _reject_lfs_pointer(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): download it again") from error


def _read_pickle(path: Path) -> Any:
    _reject_lfs_pointer(path)
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start not in _TORCH_MAGIC:
            raise EOFError("it does not begin like a file of torch.save")
        if start == _TORCH_MAGIC[0]:
            _reject_zip_bomb(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _READ_ERRORS as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({_describe_read_error(error)}). It may be cut short, or hold "
            f"objects other than tensors and training arguments, which are never unpickled"
        ) from error


def _reject_zip_bomb(path: Path) -> None:
    """Refuse a zip archive that unpacks to more than its own size; torch.save does not compress.

    Raises:
        EOFError: when it does, or the archive is damaged.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > size:
        raise EOFError(f"its {size} bytes unpack to {unpacked}, and torch.save does not compress")


def _describe_read_error(error: Exception) -> str:
    """Return one line of torch's several, without its advice to trust the file."""
    if match := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds a {truncate_key(match[1])}"
    if match := re.search(r"WeightsUnpickler error: (.+)", str(error)):
        return truncate_key(match[1])
    return truncate_key(first_line(error))


def _reject_lfs_pointer(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; give a checkpoint")
    with path.open("rb") as file:
        if file.read(23) == b"version https://git-lfs":
            raise ValueError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull` in its folder")


def count_layers(weights: StateDict, pattern: str) -> int:
    """Return the number of layers whose weights match a pattern; its group is the layer's number."""
    return 1 + max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1)


def _without_prefixes(content: dict[str, Any]) -> StateDict:
    """Return the tensors by name, without what DDP, compile and wrappers put before every name."""
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    while weights:
        shared = [prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in weights)]
        if not shared:
            break
        weights = {name.removeprefix(shared[0]): value for name, value in weights.items()}
    return weights

"""What the user named -> weights, configuration and where they came from. Nothing but tensors is ever unpickled."""

import argparse
import hashlib
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

StateDict = dict[str, Tensor]

_TORCH_MAGIC = (b"PK", b"\x80\x02")  # the zip archive of today, and the bare pickle of releases before 1.6
# What torch's reader makes of a file that is damaged, or was never one.
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
    """A checkpoint as it was found.

    Attributes:
        name: what the user gave: a path or a Hub id.
        weights: tensors by name, without the prefixes of wrappers.
        config: its `config.json`; empty where there is none.
        preprocessor: its `preprocessor_config.json`; empty where there is none.
        training: the training arguments that the original code saves with the weights.
        left_out: entries of the file with weights other than these, such as `model_ema`.
        folder: where its configuration lies; None for a file alone.
        hashes: SHA-256 of the files of weights, by name.
        license: what its card says, as a licence identifier.
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
    """Read a checkpoint of any of the supported kinds.

    Args:
        source: a file (`.pth`, `.pt`, `.bin`, `.safetensors`), a folder that holds one, or `org/name` on the Hub.
        revision: branch, tag or commit on the Hub.

    Raises:
        ValueError: for what is missing, unreadable or incomplete, or holds objects other than tensors.
    """
    path, commit = Path(source), None
    if path.exists() and revision is not None:
        raise ValueError(f"{source} lies here, and revision {revision} is of a repository of the Hub: leave it out")
    if not path.exists():
        path, commit = _download(source, revision)
    folder = path if path.is_dir() else path.parent
    files = _find_weight_files(path) if path.is_dir() else [_reject_single_shard(path)]
    # A lone .pth has no configuration, whatever else lies in its folder.
    has_config = path.is_dir() or path.name in _SINGLE_FILES
    weights, training, left_out = read_weights(files, name=source)
    return SourceCheckpoint(
        name=source,
        weights=weights,
        training=training,
        left_out=left_out,
        config=_read_json(folder / "config.json") if has_config else {},
        preprocessor=_read_json(folder / "preprocessor_config.json") if has_config else {},
        folder=folder if has_config else None,
        hashes={file.name: _sha256(file) for file in files},
        license=_read_license(folder / "README.md") if has_config else None,
        revision=commit,
    )


def read_weights(files: list[Path], *, name: str) -> tuple[StateDict, argparse.Namespace | None, tuple[str, ...]]:
    """All tensors of one checkpoint, the training arguments and the names of other weights that lie beside them.

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
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            left_out = tuple(
                truncate_key(key) for key, part in content.items() if key != wrapper and _is_state_dict(part)
            )
            content = content[wrapper]
            break
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
    """What a file begins with, for messages."""
    return f"it begins with {', '.join(map(truncate_key, list(content)[:3])) or 'nothing'}"


def truncate_key(name: object) -> str:
    """Return a name of a file, cut where it goes on for ever: a stranger may have chosen it."""
    text = " ".join(str(name).split())
    return text if len(text) <= _MAX_KEY_LENGTH else f"{text[:_MAX_KEY_LENGTH]}..."


def _check_entries(content: dict[str, Any], *, name: str, num_bytes: int) -> None:
    """Refuse weights without names, and tensors that are larger than the file that holds them.

    Raises:
        ValueError: naming the first of them.
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
            kind = "holds no values (it is on the meta device)" if value.is_meta else "is a sparse tensor"
            raise ValueError(f"{name}: {truncate_key(key)} {kind}: save the weights of the model as plain tensors")
        if key.endswith(("weight", "bias")) and not value.is_floating_point():
            raise ValueError(
                f"{name}: {truncate_key(key)} holds {str(value.dtype).removeprefix('torch.')} (quantized?): save the "
                f"weights of the model as floating-point numbers"
            )
        if value.numel() * value.element_size() > num_bytes:
            raise ValueError(
                f"{name}: {truncate_key(key)} has {value.numel()} values of shape {truncate_key(list(value.shape))}, more "
                f"than a file of {num_bytes} bytes can hold: it is no checkpoint of a model"
            )


def _reject_single_shard(path: Path) -> Path:
    found = _SHARD.search(path.name)
    if found:
        raise ValueError(
            f"{path} is part {int(found[1])} of {int(found[2])} of a sharded checkpoint: give its folder, "
            f"{path.parent}, with all parts and the index"
        )
    return path


def _find_weight_files(folder: Path) -> list[Path]:
    """The files of weights of a folder: one, or all shards of its index."""
    for name, index in zip(_SINGLE_FILES, _INDEXES, strict=True):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / index).is_file():
            return _find_shards(folder, folder / index)
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if any(_SHARD.search(path.name) for path in found):
        raise ValueError(f"{folder} holds shards without their index: add {' or '.join(_INDEXES)}")
    if len(found) == 1:
        return found
    if found:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} holds several files of weights ({names}): give one of them")
    raise ValueError(
        f"{folder} holds no weights: looked for {' or '.join(_SINGLE_FILES)} and for one {', '.join(_SUFFIXES)}"
    )


def _find_shards(folder: Path, index: Path) -> list[Path]:
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} names no shards: download it again")
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index} names a shard by something other than text: download it again")
    files = [folder / Path(name).name for name in sorted(set(names.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{folder} is a sharded checkpoint of {len(files)} files; missing: {', '.join(missing)}")
    return files


def _download(source: str, revision: str | None) -> tuple[Path, str]:
    """A Hub repository without its code: texts and weights alone, safetensors before pickles."""
    if not is_hub_id(source) or source.endswith(_SUFFIXES):
        raise ValueError(
            f"there is no checkpoint file at {source}: give a .pth or .safetensors file, a folder, or org/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        for weights in (_HUB_SAFETENSORS, _HUB_PICKLES):
            found = Path(snapshot_download(source, revision=revision, allow_patterns=[*_HUB_METADATA_FILES, *weights]))
            if any((found / name).is_file() for name in (*_SINGLE_FILES, *_INDEXES)):
                return found, found.name
    except GatedRepoError as error:
        raise ValueError(f"{source} asks for its terms to be accepted: do so on its page, then log in") from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{source} is no file or folder here, and the Hub cannot be reached to look for it"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise ValueError(
            f"{source} is no file or folder here, and the Hub does not give it ({status}): "
            f"check the name and the revision, and log in where it is private"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{source}: what answers for the Hub is not the Hub ({error}); check the network (a proxy or login page) "
            f"and HF_ENDPOINT, or give a local folder"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(
            f"{source} did not come whole ({str(error).splitlines()[0]}); check the network (a proxy may answer for "
            f"the Hub), then try again"
        ) from error
    raise ValueError(f"{source} on the Hub holds neither {' nor '.join((*_SINGLE_FILES, *_INDEXES))}")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


def _read_license(card: Path) -> str | None:
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    fields = parse_header_or_empty(text)
    named = fields.get("base_model") or []
    before = [known_checkpoint_license(str(name)) for name in ([named] if isinstance(named, str) else named)]
    return license_from_header(fields) or next(filter(None, before), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
            raise EOFError("it does not begin as a file of torch.save does")
        if start == _TORCH_MAGIC[0]:
            _reject_zip_bomb(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _READ_ERRORS as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({_describe_read_error(error)}). It may be cut short, or hold objects other "
            f"than tensors and training arguments, which are never unpickled"
        ) from error


def _reject_zip_bomb(path: Path) -> None:
    """Refuse a zip archive that unpacks to more than it has; torch.save packs nothing.

    Raises:
        EOFError: it does, or is no whole archive.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > size:
        raise EOFError(f"its {size} bytes unpack to {unpacked}, and torch.save packs nothing")


def _describe_read_error(error: Exception) -> str:
    """One line of torch's several; its advice to trust the file is left out."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return f"it holds a {truncate_key(found[1])}"
    found = re.search(r"WeightsUnpickler error: (.+)", str(error))
    if found:
        return truncate_key(found[1])
    return truncate_key(next(iter(str(error).splitlines()), type(error).__name__))


def _reject_lfs_pointer(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is no regular file; give a checkpoint")
    with path.open("rb") as file:
        if file.read(23) == b"version https://git-lfs":
            raise ValueError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull` in its folder")


def _without_prefixes(content: dict[str, Any]) -> StateDict:
    """Tensors by name, without what DDP, compile and wrappers put before every name."""
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    changed = True
    while changed and weights:
        changed = False
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in weights):
                weights = {name.removeprefix(prefix): value for name, value in weights.items()}
                changed = True
    return weights


__all__ = ["SourceCheckpoint", "StateDict", "describe_first_keys", "read_checkpoint_source", "read_weights"]

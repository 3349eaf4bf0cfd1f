"""Load and save weights under the published names, and lose nothing silently."""

from . import _check_dependencies  # noqa: F401  reports a torchvision that does not fit torch in one line

# isort: split
import copy
import json
import os
import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    cached_file,
    logging,
)

from .config_validation import count_decoder_weights, count_encoder_weights, read_config
from .run_files import copy_file_mode

logger = logging.get_logger("hf_videomae")

# transformers 5.6 to 5.17 give keys a bias. It adds the same to all scores of a query, which softmax cancels.
_KEY_BIAS = r"(encoder\.layer|decoder\.decoder_layers)\.\d+\.attention\.attention\.key\.bias$"
_KEYS_SHOWN = 12  # in a message
_WEIGHT_FILE = re.compile(r"[\w-][\w.-]*\.(safetensors|bin)")
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def register_checkpoint_renames() -> None:
    """Register the names on disk with transformers: `q_bias` and `v_bias` are `query.bias` and `value.bias` in memory.

    transformers does this for its own classes alone (releases before September 2026 not even for them: those load the
    biases as zeros). Applied on load and reversed on save.
    """
    register_checkpoint_conversion_mapping(
        "videomae",
        [
            WeightRenaming(r"attention\.attention\.q_bias", "attention.attention.query.bias"),
            WeightRenaming(r"attention\.attention\.v_bias", "attention.attention.value.bias"),
        ],
        overwrite=True,
    )


class StrictLoadingMixin(PreTrainedModel):
    """Load weights strictly: an unused weight, or a parameter without a weight, is an error."""

    # Patterns of keys, after an optional "videomae.", that may be in the file but not in the model, and vice versa.
    _allowed_unexpected_keys: tuple[str, ...] = ()
    _allowed_missing_keys: tuple[str, ...] = ()
    _stores_decoder = False
    _key_error_hint = "Check that the file is a VideoMAE checkpoint and that its config.json belongs to it."

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Load as `PreTrainedModel.from_pretrained` does, but lose nothing silently.

        Args:
            pretrained_model_name_or_path: a Hub id or a folder.
            output_loading_info: also return the missing and unexpected keys.
            **kwargs: as in transformers; configuration fields override the file's. A clip size other than the trained
                one (`num_frames`, `image_size`) interpolates the trained position table.

        Raises:
            ValueError: naming every missing or unexpected key that the head does not allow.
        """
        loaded = cls._load_strict(
            pretrained_model_name_or_path,
            args,
            kwargs,
            allowed_missing=cls._allowed_missing_keys,
            allowed_unexpected=cls._allowed_unexpected_keys,
        )
        return loaded if output_loading_info else loaded[0]

    @classmethod
    def _load_strict(
        cls,
        source: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        allowed_missing: tuple[str, ...] = (),
        allowed_unexpected: tuple[str, ...] = (),
    ) -> tuple[Any, dict[str, Any]]:
        """Return the model and its loading info; all missing and unexpected keys must match the allowed patterns."""
        _check_weight_file_size(cls, source, kwargs, allowed_missing=allowed_missing)
        may_mismatch = kwargs.get("ignore_mismatched_sizes", False)
        try:
            model, info = super().from_pretrained(
                source, *args, output_loading_info=True, **{**kwargs, "ignore_mismatched_sizes": True}
            )
        except (SafetensorError, pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"the weights of {source} cannot be read ({error}): download them again") from error
        if info["mismatched_keys"] and not may_mismatch:
            raise ValueError(_format_mismatch(source, info["mismatched_keys"]))
        missing = sorted(key for key in info["missing_keys"] if not key_matches(key, allowed_missing))
        unexpected = sorted(
            key for key in info["unexpected_keys"] if not key_matches(key, (*allowed_unexpected, _KEY_BIAS))
        )
        if missing or unexpected:
            raise ValueError(
                f"the weights of {source} do not fit {cls.__name__}. "
                + (f"Not in the file: {_format_keys(missing)}. " if missing else "")
                + (f"Not in the model: {_format_keys(unexpected)}. " if unexpected else "")
                + cls._key_error_hint
            )
        if any(key_matches(key, (_KEY_BIAS,)) for key in info["unexpected_keys"]):
            logger.warning(
                f"{source} holds biases of keys (from transformers 5.6 to 5.17), which softmax ignores: left out."
            )
        return model, info

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Save as `PreTrainedModel.save_pretrained` does; warn if stock transformers would read other positions."""
        if self.config.position_embedding == "learned":
            logger.warning(
                "This model stores a position table of its own. hf_videomae reads it; stock transformers does not, "
                "and would return other numbers with its fixed sinusoid."
            )
        if self.config.table_grid != self.config.grid:
            logger.warning(
                f"This model interpolates the position table of the grid {self.config.table_grid} to "
                f"{self.config.grid}. hf_videomae reads that from its config; stock transformers does not, and would "
                f"return other numbers."
            )
        super().save_pretrained(save_directory, *args, **kwargs)
        folder = Path(save_directory)
        copy_file_mode(folder / "config.json", folder.glob("*.safetensors"))


def rename_published_biases(module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Rename `q_bias` and `v_bias` to the names in memory, before `load_state_dict` reads them.

    `from_pretrained` renames by itself and never calls this. All other ways to load weights do: stock `Trainer`,
    Accelerate, safetensors, sharded checkpoints.

    Args:
        module: the self-attention whose weights are loaded next.
        state_dict: changed in place.
        prefix: prefix of the module's weights in it.
        *rest: further arguments of such hooks in torch; the last one is the list of errors.
    """
    errors: list[str] = rest[-1]
    for published, name in (("q_bias", "query"), ("v_bias", "value")):
        part = getattr(module, name)
        wrapped = hasattr(part, "base_layer")  # by PEFT
        own = (part.base_layer if wrapped else part).bias
        if own is None or prefix + published not in state_dict:
            continue
        value = state_dict.pop(prefix + published)
        target = f"{prefix}{name}.{'base_layer.' if wrapped else ''}bias"
        # torch.distributed's set_model_state_dict adds the model's own tensors for names that it does not know.
        other = state_dict.get(target, own)
        if other is not own and other.device.type != "meta" and not torch.equal(other, value):
            errors.append(f"{prefix}{published} and {target} are one weight with two values: remove one of them")
        state_dict[target] = value


def _check_weight_file_size(
    cls: type[StrictLoadingMixin], source: Any, kwargs: dict[str, Any], *, allowed_missing: tuple[str, ...]
) -> None:
    """Refuse a configuration of more weights than the file of weights has bytes, before they take memory.

    Fresh parts are not counted. For weights in several files only the index is checked here.

    Raises:
        ValueError: with both numbers, or for an index that names files outside its folder.
    """
    if kwargs.get("state_dict") is not None:
        return
    hub_options = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
    cache_options = {name: value for name, value in hub_options.items() if name != "proxies"}
    variant, weights = kwargs.get("variant"), None
    if not variant and not kwargs.get("force_download"):
        weights = cached_file(source, SAFE_WEIGHTS_NAME, _raise_exceptions_for_missing_entries=False, **cache_options)
    if weights is None:
        return _check_weight_index(source, variant, **cache_options)
    config = kwargs.get("config")
    if not isinstance(config, PreTrainedConfig):
        known = {"num_labels", *(field.name for field in fields(cls.config_class))}
        changes = {name: value for name, value in kwargs.items() if name in known}
        config = cls.config_class.from_pretrained(source if config is None else config, **hub_options, **changes)
    count = count_encoder_weights(config)
    if cls._stores_decoder and not allowed_missing:
        count += count_decoder_weights(config)
    size = os.path.getsize(weights)
    if count > size:
        raise ValueError(
            f"the config.json of {source} describes a model of {count} weights or more, and its file of weights has "
            f"{size} bytes: they do not belong together. {cls._key_error_hint}"
        )


def _check_weight_index(source: Any, variant: str | None, **cache_options: Any) -> None:
    """Refuse an index of weights that is damaged, or names files outside its folder.

    Raises:
        ValueError: naming the index and the first such file.
    """
    for name in (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME):
        name = f"{name.removesuffix('.json')}.{variant}.json" if variant else name
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False, **cache_options)
        if path is None:
            continue
        try:
            index = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the {name} of {source} is not valid JSON: download it again") from error
        files = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(files, dict) or not files or not isinstance(index.get("metadata"), dict):
            raise ValueError(f"the {name} of {source} needs `metadata` and `weight_map` as objects: download it again")
        odd = [file for file in files.values() if not isinstance(file, str) or not _WEIGHT_FILE.fullmatch(file)]
        if odd:
            raise ValueError(
                f"the {name} of {source} names {_format_keys([str(odd[0])])}, which is not a file of weights in its "
                f"folder; use a complete folder of the model"
            )


def _format_keys(keys: Sequence[str]) -> str:
    """Return the first keys, shortened so that a message stays readable."""
    shown = ", ".join(key if len(key) <= 100 else f"{key[:100]}..." for key in keys[:_KEYS_SHOWN])
    return shown if len(keys) <= _KEYS_SHOWN else f"{shown} and {len(keys) - _KEYS_SHOWN} more"


def _format_mismatch(source: Any, keys: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> str:
    """Return a line that names a weight of another shape than the configuration says."""
    mismatches = sorted(
        (-len(file_shape), key, list(file_shape), list(model_shape)) for key, file_shape, model_shape in keys
    )
    _, key, file_shape, model_shape = mismatches[0]
    more = f", and {len(mismatches) - 1} others" if len(mismatches) > 1 else ""
    return (
        f"the weights of {source} have other shapes than its configuration says: {key} is {file_shape} in the file "
        f"and {model_shape} in the model{more}; give the config.json that belongs to the weights"
    )


def is_saved_without_classifier(source: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether a checkpoint's config names another head than a classifier; False if it names none."""
    architectures = read_architectures(source, kwargs)
    return bool(architectures) and not any("VideoClassification" in name for name in architectures)


def read_architectures(source: Any, kwargs: dict[str, Any]) -> list[str]:
    """Return the classes that wrote a checkpoint, from its config; none if it does not say."""
    config = kwargs.get("config")
    if isinstance(config, PreTrainedConfig):
        return list(config.architectures or [])
    hub_options = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
    values, _ = read_config(PreTrainedConfig.get_config_dict, source if config is None else config, **hub_options)
    return list(values.get("architectures") or [])


def with_mean_pooling(source: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of `from_pretrained` with mean pooling, and warn; the caller's config stays unchanged."""
    logger.warning(
        f"{source} holds no classifier: a new one is made on the mean of all tokens with a fresh fc_norm, as in the "
        f"paper, whatever its config says (pass use_mean_pooling=False to read token 0 alone)."
    )
    config = kwargs.get("config")
    if isinstance(config, PreTrainedConfig):
        config = copy.deepcopy(config)
        config.use_mean_pooling = True
        return {**kwargs, "config": config}
    return {**kwargs, "use_mean_pooling": True}


def load_with_mean_pooling(
    load: Callable[..., Any], source: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Load a classifier; a new head averages all tokens, unless the caller says otherwise.

    Args:
        load: `from_pretrained`.
        source: a Hub id or a folder.
        args, kwargs: arguments of `load`.

    Returns:
        the model and its loading info: missing and unexpected keys.
    """
    if "use_mean_pooling" not in kwargs and is_saved_without_classifier(source, kwargs):
        kwargs = with_mean_pooling(source, kwargs)
    model, info = load(source, *args, output_loading_info=True, **kwargs)
    new_head = any(key_matches(key, (r"classifier\.",)) for key in info["missing_keys"])
    if new_head and model.fc_norm is None and "use_mean_pooling" not in kwargs:
        model, info = load(source, *args, output_loading_info=True, **with_mean_pooling(source, kwargs))
    return model, info


def key_matches(key: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a parameter's name begins with one of the patterns, with or without the backbone's prefix."""
    return any(re.match(rf"(videomae\.)?{pattern}", key) for pattern in patterns)

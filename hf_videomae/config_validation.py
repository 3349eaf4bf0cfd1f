"""Validate `config.json` and sizes of models: a file from anyone must not hang or fill a machine.

The limits are far beyond published models (ViT-giant is 1408 wide, 40 layers deep). A larger model is a `ValueError`
before anything is built.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_WIDTH = 2**16
MAX_MLP_WIDTH = 2**18
MAX_LAYERS = 1024
MAX_LABELS = 100_000
MAX_TOKENS = 2**17
"""Tokens of a clip: 64 frames of 1024 x 1024 pixels in cubes of 2 x 16 x 16 have as many."""
MAX_CLIP_VALUES = 2**29
"""Values (frames x channels x pixels) of a clip; 2 GiB as floats."""
MAX_WEIGHTS = 10**11
"""Weights of an encoder."""

_MAX_SIDE = 16384  # pixels of a frame
_MAX_CHANNELS = 4096
_MAX_TEXT, _MAX_ENTRIES = 1000, 64
_LONG_LISTS = ("id2label", "label2id", "image_mean", "image_std")
_PROCESSOR_BOOLEANS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_sample_frames"}
_PROCESSOR_COUNTS = {"num_frames": 2**16, "frame_stride": 10**6, "num_views": 1000}
_PROCESSOR_NUMBERS = {"rescale_factor", "frame_seconds"}

_BOOLEAN_FIELDS = {
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "use_return_dict",
    "tie_word_embeddings",
}
_ATTENTIONS = {"attn_implementation", "_attn_implementation", "_attn_implementation_internal"}

_MAX_SHOWN_CHARACTERS = 80  # characters of an odd value in a message
_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
_INTEGER_BOUNDS = {
    "hidden_size": (1, MAX_WIDTH),
    "decoder_hidden_size": (1, MAX_WIDTH),
    "intermediate_size": (1, MAX_MLP_WIDTH),
    "decoder_intermediate_size": (1, MAX_MLP_WIDTH),
    "num_hidden_layers": (0, MAX_LAYERS),
    "decoder_num_hidden_layers": (0, MAX_LAYERS),
    "num_attention_heads": (1, MAX_WIDTH),
    "decoder_num_attention_heads": (1, MAX_WIDTH),
    "num_frames": (1, MAX_CLIP_VALUES),
    "num_channels": (1, MAX_CLIP_VALUES),
    "tubelet_size": (1, MAX_CLIP_VALUES),
}
_FINITE = ("layer_norm_eps", "final_layer_norm_eps", "initializer_range", "head_init_scale")


def read_config(
    read: Callable[..., tuple[Any, dict[str, Any]]],
    source: Any,
    *,
    name: str = "config.json",
    check: Callable[[Any], None] | None = None,
    **options: Any,
) -> Any:
    """Read and check a JSON file of a folder or repository with a function of transformers.

    Args:
        read: the function.
        source: the folder or repository.
        name: name of the file in errors.
        check: check of the values read; `check_config_dict` by default.
        **options: options of the function.

    Returns:
        the result of `read`.

    Raises:
        ValueError: for a file that holds no JSON object, one that is nested too deeply, or odd values.
    """
    try:
        result = read(source, **options)
    # transformers' errors for another JSON value, one nested too deeply, and a number of too many digits.
    except (AttributeError, TypeError, KeyError, RecursionError, ValueError) as error:
        raise ValueError(f"the {name} of {source} cannot be used ({error}): it must be a JSON object") from error
    except OSError as error:
        if "valid JSON" not in str(error):
            raise
        raise ValueError(f"the {name} of {source} is not valid JSON: download it again") from error
    (check or check_config_dict)(result[0])
    return result


def check_config_dict(values: Any) -> None:
    """Refuse fields of a `config.json` that are invalid, or would take forever to process.

    Args:
        values: the parsed JSON.

    Raises:
        ValueError: naming the field and its value.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"the configuration must be a JSON object, not {_format_value(values)}")
    _check_lengths(values)
    _check_names(values.get("architectures"))
    if values.get("problem_type") not in (None, *_PROBLEM_TYPES):
        kinds = ", ".join(_PROBLEM_TYPES)
        raise ValueError(f"problem_type must be one of {kinds}, not {_format_value(values['problem_type'])}")
    _check_dtype(values.get("dtype", values.get("torch_dtype")))
    _check_settings(values)
    for name in ("id2label", "label2id"):
        table = values.get(name)
        # The configuration itself numbers, or refuses, a list of names.
        if table is not None and not isinstance(table, Mapping | list):
            raise ValueError(f"{name} must be a JSON object, not {_format_value(table)}")
        check_num_labels(len(table or ()))
    check_num_labels(values.get("num_labels"))


def check_num_labels(count: Any) -> None:
    """Refuse a number of classes that is not 0 to `MAX_LABELS`; None stands for no number."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_LABELS):
        raise ValueError(f"num_labels must be a number from 0 to {MAX_LABELS}, not {_format_value(count)}")


def check_id2label(id2label: Any, count: Any) -> None:
    """Refuse class names that are no mapping by number, and a number of classes out of bounds."""
    if id2label is not None and not isinstance(id2label, Mapping):
        raise ValueError(f"id2label must be a JSON object, not {_format_value(id2label)}")
    check_num_labels(len(id2label or ()))
    check_num_labels(count)


def check_config_sizes(config: Any) -> None:
    """Refuse numbers out of bounds, field by field, and models or clips that are too large as a whole.

    Raises:
        ValueError: naming the field, its value and the bounds.
    """
    for name, (lowest, highest) in _INTEGER_BOUNDS.items():
        value = getattr(config, name)
        if not lowest <= value <= highest:
            raise ValueError(f"{name}={_format_value(value)} is out of bounds: it must be {lowest} to {highest}")
    for name in _FINITE:
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value} must be a finite number, 0 or more")
    for name in ("image_mean", "image_std"):
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in getattr(config, name)):
            raise ValueError(f"{name}={_format_value(getattr(config, name))} must be finite numbers")
    weights = count_encoder_weights(config)
    if weights > MAX_WEIGHTS:
        raise ValueError(
            f"the configuration describes an encoder of {weights} weights; at most {MAX_WEIGHTS} are allowed"
        )


def check_clip_size(*, values: int, tokens: int) -> None:
    """Refuse clips of too many pixels or tokens. Raises `ValueError`."""
    if values > MAX_CLIP_VALUES:
        raise ValueError(
            f"a clip of this configuration has {values} values (num_frames x num_channels x pixels); at most "
            f"{MAX_CLIP_VALUES} are allowed"
        )
    if tokens > MAX_TOKENS:
        raise ValueError(f"a clip of this configuration has {tokens} tokens; at most {MAX_TOKENS} are allowed")


def check_processor_dict(values: Any) -> None:
    """Refuse settings of a `preprocessor_config.json` that are of the wrong type, or out of bounds.

    Args:
        values: the parsed JSON. Null stands for the default.

    Raises:
        ValueError: naming the setting and its value.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"the settings of a processor must be a JSON object, not {_format_value(values)}")
    _check_lengths(values)
    given = {name: value for name, value in values.items() if value is not None}
    for name in _PROCESSOR_BOOLEANS & given.keys():
        if not isinstance(given[name], bool):
            raise ValueError(f"{name} must be true or false, not {_format_value(given[name])}")
    for name in _PROCESSOR_COUNTS.keys() & given.keys():
        if not _is_int_in_range(given[name], highest=_PROCESSOR_COUNTS[name]):
            raise ValueError(
                f"{name} must be a number from 1 to {_PROCESSOR_COUNTS[name]}, not {_format_value(given[name])}"
            )
    for name in _PROCESSOR_NUMBERS & given.keys():
        if not _is_number(given[name]):
            raise ValueError(f"{name} must be a finite number, not {_format_value(given[name])}")
    for name in {"image_mean", "image_std"} & given.keys():
        parts = given[name] if isinstance(given[name], list | tuple) else [given[name]]
        if not (0 < len(parts) <= _MAX_CHANNELS and all(map(_is_number, parts))):
            raise ValueError(f"{name} must be one finite number per channel, not {_format_value(given[name])}")
    for name in {"size", "crop_size"} & given.keys():
        _check_side(name, given[name])
    for name in {"resample", "sampling_mode"} & given.keys():
        if not isinstance(given[name], str | int):
            raise ValueError(f"{name} must be a name, not {_format_value(given[name])}")
    _check_processed_clip(given)


def _check_processed_clip(given: Mapping[str, Any]) -> None:
    """Refuse clips that would fill the memory. Frames and channels that are not given count as one."""
    sizes = [_count_pixels(given[name]) for name in ("crop_size", "size") if name in given]
    means = given.get("image_mean")
    channels = len(means) if isinstance(means, list | tuple) else 1
    check_clip_size(values=int(given.get("num_frames", 1) * channels * (sizes[0] if sizes else 1)), tokens=0)


def _count_pixels(size: Any) -> float:
    """Return the least number of pixels of a frame of such a size."""
    sides: Any = size if isinstance(size, list | tuple) else [size]
    if isinstance(size, Mapping):
        sides = [side for side in size.values() if side is not None]
    return float(math.prod(sides) if len(sides) == 2 else sides[0] ** 2)


def _check_side(name: str, size: Any) -> None:
    sides: Any = size if isinstance(size, list | tuple) else [size]
    if isinstance(size, Mapping):
        sides = [side for side in size.values() if side is not None]
    if not (1 <= len(sides) <= 2 and all(_is_number(side) and 1 <= side <= _MAX_SIDE for side in sides)):
        raise ValueError(
            f"{name} must be whole pixels from 1 to {_MAX_SIDE} (a number, {{'shortest_edge': n}} or "
            f"{{'height': h, 'width': w}}), not {_format_value(size)}"
        )


def _is_int_in_range(value: Any, *, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= highest


def _is_number(value: Any) -> bool:
    # An integer may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def count_encoder_weights(config: Any) -> int:
    """Return the least number of weights of the encoder: its matrices, and the patch embedding."""
    embedding = config.hidden_size * config.num_channels * math.prod(config.cube)
    return embedding + _count_layer_weights(config, "")


def count_decoder_weights(config: Any) -> int:
    """Return the least number of weights of the pre-training decoder."""
    return _count_layer_weights(config, "decoder_")


def _count_layer_weights(config: Any, prefix: str) -> int:
    width, mlp_width = getattr(config, f"{prefix}hidden_size"), getattr(config, f"{prefix}intermediate_size")
    return int(getattr(config, f"{prefix}num_hidden_layers") * (4 * width * width + 2 * width * mlp_width))


def format_strict_error(error: Exception) -> str:
    """Return the error of a strict dataclass about a field, in one line."""
    message = " ".join(str(error).split())
    _, _, after = message.partition("TypeError: ")
    shown = (after or message).removeprefix("Field ")
    return f"the configuration cannot be read: {shown[:200]}{'...' if len(shown) > 200 else ''}"


def _check_lengths(values: Mapping[str, Any]) -> None:
    """Refuse texts and lists longer than any real setting; class names may be many."""
    for name, value in values.items():
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise ValueError(f"{_format_value(name)} is a text of {len(value)} characters; no setting is so long")
        if isinstance(value, list) and len(value) > _MAX_ENTRIES and name not in _LONG_LISTS:
            raise ValueError(f"{_format_value(name)} is a list of {len(value)} entries; no setting has so many")


def _check_names(architectures: Any) -> None:
    if architectures is None:
        return
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise ValueError(f"architectures must be a list of names of classes, not {_format_value(architectures)}")


def _check_settings(values: Mapping[str, Any]) -> None:
    """Refuse settings of transformers of a wrong type, and attention whose code comes from a repository of the Hub."""
    for name in _BOOLEAN_FIELDS & values.keys():
        if not isinstance(values[name], bool | None):
            raise ValueError(f"{name} must be true or false, not {_format_value(values[name])}")
    for name in _ATTENTIONS & values.keys():
        if values[name] is not None and not re.fullmatch(r"[\w|]+", str(values[name])):
            raise ValueError(
                f"{name} is {_format_value(values[name])}: a configuration must not name code of other repositories; "
                f"remove the entry, and pass attn_implementation to from_pretrained if you want that code"
            )
    if not isinstance(values.get("quantization_config"), Mapping | None):
        raise ValueError(f"quantization_config must be an object, not {_format_value(values['quantization_config'])}")
    odd = [name for name in values if str(name).startswith("__")]
    if odd:
        raise ValueError(f"the configuration has no field {_format_value(odd[0])}; remove it")


def _check_dtype(dtype: Any) -> None:
    import torch

    if dtype is None or isinstance(dtype, torch.dtype) or dtype == "auto":
        return
    known = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    if not isinstance(known, torch.dtype) or not known.is_floating_point:
        raise ValueError(f"dtype must be a floating point type such as float32, not {_format_value(dtype)}")


def _format_value(value: Any) -> str:
    # Python refuses to write out a number of more than 4300 digits.
    if isinstance(value, int) and abs(value) >= 10**18:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, Mapping | list | tuple) and len(value) > 20:
        return f"{type(value).__name__} of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."

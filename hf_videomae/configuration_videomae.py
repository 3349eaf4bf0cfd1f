"""Define VideoMAEConfig: the fields of stock transformers under their stock names, and ours."""

import difflib
import functools
import math
import os
import reprlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from .config_validation import (
    check_clip_size,
    check_config_dict,
    check_config_sizes,
    check_id2label,
    check_num_labels,
    format_strict_error,
    read_config,
)
from .video.transforms import IMAGENET_MEAN, IMAGENET_STD

Task = Literal["pretraining", "classification"]

_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxstring = 80  # characters of a class name in a message


def _sizes(encoder: tuple[int, int, int, int], decoder: tuple[int, int, int, int], **fields: Any) -> dict[str, Any]:
    """Return the fields of a preset; (width, layers, heads, MLP width) of the encoder and of the decoder."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    decoder_fields = {f"decoder_{name}": value for name, value in zip(names, decoder, strict=True)}
    return {**dict(zip(names, encoder, strict=True)), **decoder_fields, **fields}


# Architectures of the paper (appendix, table 8), of its released code, and of VideoMAE V2 (giant; its decoder has the
# encoder's MLP ratio, 48/11).
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": _sizes((128, 4, 4, 512), (96, 2, 3, 384), image_size=64, num_frames=8, mask_ratio=0.75),
    "small": _sizes((384, 12, 6, 1536), (192, 4, 3, 768)),
    "base": _sizes((768, 12, 12, 3072), (384, 4, 6, 1536)),
    "large": _sizes((1024, 24, 16, 4096), (512, 12, 8, 2048)),
    "huge": _sizes((1280, 32, 16, 5120), (640, 12, 8, 2560)),
    "giant": _sizes((1408, 40, 16, 6144), (512, 4, 8, 2234), patch_size=14, decoder_mask_type="running_cell"),
}
PRESETS: tuple[str, ...] = tuple(_SIZES)


@strict
class VideoMAEConfig(PreTrainedConfig):
    """Architecture and pre-training task of a VideoMAE.

    The first block of fields is that of `transformers.VideoMAEConfig`, so that either side can read the other's
    `config.json`. The second block is ours and survives a round trip through stock transformers.

    Args:
        image_size: height and width of a frame in pixels, one number or (height, width).
        patch_size: height and width of a cube in pixels, one number or (height, width).
        num_channels: channels of a frame.
        num_frames: frames of a clip.
        tubelet_size: frames of a cube.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: the encoder.
        hidden_act: activation of the MLPs.
        hidden_dropout_prob, attention_probs_dropout_prob: dropout; 0 in every recipe of the paper.
        initializer_range: standard deviation of fresh weights of a backbone or classifier.
        layer_norm_eps: epsilon of the norms in blocks. The originals, presets and converted checkpoints use 1e-6.
        qv_bias: queries and values have a bias (keys never have one).
        use_mean_pooling: the classifier averages all tokens and the encoder ends without a norm; otherwise the encoder
            ends with a norm, as in pre-training, and a classifier reads token 0 (there is no [CLS] token).
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size:
            the decoder of pre-training.
        norm_pix_loss: targets normalized per cube (paper, section 3.1); otherwise pixels in [0, 1].
        mask_type: `tube`, `random`, `frame` or `running_cell`: the mask drawn if none is given.
        mask_ratio: its share of masked tokens, in (0, 1).
        decoder_mask_type: None, or the mask of the tokens that are not decoded (`running_cell` in V2).
        decoder_mask_ratio: its share, in (0, 1).
        reconstruction_loss: `mse`, `l1` or `smooth_l1`.
        drop_path_rate: stochastic depth of the last encoder layer; it grows linearly from 0.
        head_dropout: dropout before the classifier.
        head_init_scale: factor on a fresh classifier's weights (0.001 in the paper's code: the first loss is ln K).
        image_mean, image_std: mean and deviation per channel that normalize pixels in [0, 1]. ImageNet's for 3
            channels.
        final_layer_norm_eps: epsilon of the decoder's norm and of `fc_norm`. Stock transformers fixes 1e-5; the
            originals use 1e-6. The two differ by at most 2e-5 in the logits.
        position_grid: (T', H', W') that the position table was trained on, if it differs from the clip's grid; it is
            then interpolated. None: the clip's grid.
        position_embedding: `sinusoid`, the paper's fixed table, stored in no file; or `learned`, a table of the
            encoder that is trained and stored with the weights (image checkpoints inflated to video start with it).
            Stock transformers supports the first alone.

    Raises:
        ValueError: for an invalid configuration, when it is built.
    """

    model_type = "videomae"

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3
    num_frames: int = 16
    tubelet_size: int = 2
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    qv_bias: bool = True
    use_mean_pooling: bool = True
    decoder_num_attention_heads: int = 6
    decoder_hidden_size: int = 384
    decoder_num_hidden_layers: int = 4
    decoder_intermediate_size: int = 1536
    norm_pix_loss: bool = True

    mask_type: str = "tube"
    mask_ratio: float = 0.9
    decoder_mask_type: str | None = None
    decoder_mask_ratio: float = 0.5
    reconstruction_loss: str = "mse"
    drop_path_rate: float | int = 0.0
    head_dropout: float | int = 0.0
    head_init_scale: float | int = 0.001
    image_mean: list[float] | tuple[float, ...] | None = None
    image_std: list[float] | tuple[float, ...] | None = None
    final_layer_norm_eps: float = 1e-5
    position_grid: list[int] | tuple[int, int, int] | None = None
    position_embedding: str = "sinusoid"

    def __post_init__(self, **kwargs: Any) -> None:
        if "qkv_bias" in kwargs:
            self.qv_bias = kwargs.pop("qkv_bias")
        _check_misspelled(kwargs, known=[field.name for field in fields(self)])
        id2label, label2id = reconcile_labels(self.__dict__.get("id2label"), self.__dict__.get("label2id"))
        self.__dict__.update(id2label=id2label, label2id=label2id)
        check_id2label(self.id2label, kwargs.get("num_labels"))
        super().__post_init__(**kwargs)
        if self.image_mean is None:
            self.image_mean = list(IMAGENET_MEAN) if self.num_channels == 3 else [0.5] * self.num_channels
        if self.image_std is None:
            self.image_std = list(IMAGENET_STD) if self.num_channels == 3 else [0.5] * self.num_channels
        self._check_pixel_sizes()
        check_config_sizes(self)
        self._check_widths()
        self._check_pixels()
        self._check_task()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; names of classes get whole numbers as keys, and `label2id` follows `id2label`."""
        if name == "id2label" and value is not None:
            value = normalize_id2label(value)
            super().__setattr__("label2id", _invert_id2label(value))
        elif name == "label2id" and isinstance(value, dict):
            value = {str(label): _parse_class_number(number, field=name) for label, number in value.items()}
        super().__setattr__(name, value)

    def validate_output_attentions(self) -> None:
        """Allow `output_attentions` with any attention: our models then use eager attention."""

    @classmethod
    def from_preset(cls, name: str, *, task: Task = "pretraining", **overrides: Any) -> "VideoMAEConfig":
        """Return a published architecture by name.

        Args:
            name: `tiny` (64x64 pixels, 8 frames, for CPUs), `small`, `base`, `large`, `huge` (paper) or `giant` (V2).
            task: `pretraining` ends the encoder with a norm, `classification` pools the mean, as in the paper's code.
            **overrides: any field, over the preset's.

        Raises:
            ValueError: for an unknown name or task, or a field that does not exist.
        """
        if name not in _SIZES:
            raise ValueError(f"preset {name!r} does not exist; choose one of {', '.join(_SIZES)}")
        if task not in ("pretraining", "classification"):
            raise ValueError(f"task {task!r} does not exist; choose pretraining or classification")
        # Norms: the paper's 1e-6 in the blocks; the final ones stay at stock's 1e-5, so that stock transformers
        # computes the same logits.
        values = {"layer_norm_eps": 1e-6, "use_mean_pooling": task == "classification", **_SIZES[name], **overrides}
        return cls(**values)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a configuration as transformers does.

        Raises:
            ValueError: for a file that holds no JSON object, or one that is nested too deeply.
        """
        return read_config(super().get_config_dict, pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build from a dictionary as in transformers, but check overrides together and keep the trained position grid.

        Raises:
            ValueError: for the configuration of another kind of model.
        """
        check_config_dict(config_dict)
        check_num_labels(kwargs.get("num_labels"))
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"this is the configuration of a {model_type!r} model, not of a VideoMAE (model_type 'videomae'): "
                f"give a VideoMAE checkpoint, or convert the weights with `hf-videomae convert`"
            )
        own = {field.name for field in fields(cls)}
        overrides = {
            name: kwargs.pop(name) for name in list(kwargs) if name in own and name not in _HANDLED_BY_TRANSFORMERS
        }
        values = {**config_dict, **overrides}
        if {"id2label", "label2id"} & kwargs.keys():  # other classes replace those of the file
            labels = {str(name): kwargs.pop(name) for name in ("id2label", "label2id") if name in kwargs}
            values = {**values, "id2label": None, "label2id": None, **labels}
        if values.get("position_grid") is None and _GEOMETRY & overrides.keys():
            trained = cls(**{name: config_dict[name] for name in _GEOMETRY if name in config_dict}).grid
            if cls(**{name: values[name] for name in _GEOMETRY if name in values}).grid != trained:
                values["position_grid"] = list(trained)
        return super().from_dict(values, **kwargs)

    @property
    def cube(self) -> tuple[int, int, int]:
        """Return (frames, pixels, pixels) of one token."""
        return self.tubelet_size, *_pair(self.patch_size)

    @property
    def image_height_width(self) -> tuple[int, int]:
        """Return (height, width) of a frame in pixels."""
        return _pair(self.image_size)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Return (T', H', W') tokens of a clip of the configured size."""
        height, width = self.image_height_width
        return self.num_frames // self.cube[0], height // self.cube[1], width // self.cube[2]

    @property
    def table_grid(self) -> tuple[int, int, int]:
        """Return (T', H', W') of the position table: `position_grid`, or the clip's own grid."""
        return self.grid if self.position_grid is None else tuple(self.position_grid)  # type: ignore[return-value]

    def _check_pixel_sizes(self) -> None:
        """Check sizes in pixels before anything is computed with them."""
        for name in ("image_size", "patch_size"):
            if min(_pair(getattr(self, name))) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 pixel or more")

    def _check_widths(self) -> None:
        for prefix in ("", "decoder_"):
            width, heads = getattr(self, f"{prefix}hidden_size"), getattr(self, f"{prefix}num_attention_heads")
            if heads < 1 or width < heads or width % heads:
                raise ValueError(
                    f"{prefix}hidden_size={width} is not divisible by {prefix}num_attention_heads={heads}: "
                    f"every head needs the same width; change one of the two"
                )
        for name in ("num_hidden_layers", "decoder_num_hidden_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is negative; give the number of layers, 0 or more")
        for name in ("drop_path_rate", "head_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is outside [0, 1)")

    def _check_pixels(self) -> None:
        from .ops.patches import token_grid

        height, width = self.image_height_width
        if min(self.cube) < 1 or self.num_channels < 1:
            raise ValueError(
                f"tubelet_size={self.tubelet_size}, patch_size={self.patch_size} and num_channels={self.num_channels} "
                f"must be 1 or more"
            )
        grid = token_grid(num_frames=self.num_frames, height=height, width=width, cube=self.cube)
        check_clip_size(values=self.num_frames * self.num_channels * height * width, tokens=math.prod(grid))
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if len(values) != self.num_channels:
                raise ValueError(
                    f"{name} has {len(values)} values for num_channels={self.num_channels}; give one per channel"
                )
        if min(self.image_std or ()) <= 0:
            raise ValueError(f"image_std={_SHORT_REPR.repr(self.image_std)} must be above 0: pixels are divided by it")
        if self.position_grid is not None and (len(self.position_grid) != 3 or min(self.position_grid) < 1):
            raise ValueError(f"position_grid={self.position_grid} must be three positive numbers (T', H', W')")
        check_clip_size(values=0, tokens=math.prod(self.table_grid))
        if self.position_embedding not in ("sinusoid", "learned"):
            raise ValueError(
                f"position_embedding={self.position_embedding!r} is not known; choose sinusoid or learned"
            )

    def _check_task(self) -> None:
        from transformers.activations import ACT2FN

        from .ops.losses import RECONSTRUCTION_LOSSES
        from .ops.masking import compute_num_masked

        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act={self.hidden_act[:40]!r} is not known to transformers; VideoMAE uses gelu")

        if self.reconstruction_loss not in RECONSTRUCTION_LOSSES:
            raise ValueError(
                f"reconstruction_loss={self.reconstruction_loss!r} is not known; "
                f"choose one of {', '.join(RECONSTRUCTION_LOSSES)}"
            )
        compute_num_masked(self.mask_type, self.grid, self.mask_ratio)
        if self.decoder_mask_type is not None:
            compute_num_masked(self.decoder_mask_type, self.grid, self.decoder_mask_ratio)


def reconcile_labels(id2label: Any, label2id: Any) -> tuple[dict[int, str] | None, dict[str, int] | None]:
    """Return the names of classes by number and the numbers by name, from either or both.

    Raises:
        ValueError: the two contradict each other, or numbers are missing.
    """
    if label2id:
        if not isinstance(label2id, dict):
            raise ValueError(f"label2id is a {type(label2id).__name__}; give numbers by name, e.g. {{'run': 0}}")
        label2id = {str(label): _parse_class_number(number, field="label2id") for label, number in label2id.items()}
    if id2label is None:
        # transformers does not write the default of two classes, but may write its label2id.
        if not label2id:
            return None, None
        id2label = {number: label for label, number in label2id.items()}
        if len(id2label) != len(label2id):
            raise ValueError("label2id gives two classes the same number, and id2label is missing; give each its own")
    names = normalize_id2label(id2label)
    wrong = [label for label, number in (label2id or {}).items() if names.get(number) != label]
    if wrong and label2id:
        number = label2id[wrong[0]]
        raise ValueError(
            f"id2label and label2id contradict each other: label2id says that {_SHORT_REPR.repr(wrong[0])} is class "
            f"{number}, and id2label that class {number} is {_SHORT_REPR.repr(names.get(number))} ({len(wrong)} such "
            f"names); correct one of them, or leave label2id out"
        )
    return names, _invert_id2label(names)


def normalize_id2label(id2label: Any) -> dict[int, str]:
    """Return the names of classes by number, in the order of the numbers; JSON has texts as keys, in any order.

    Raises:
        ValueError: the numbers are not 0 to K - 1, each once.
    """
    if isinstance(id2label, (list, tuple)):
        id2label = dict(enumerate(id2label))
    if not isinstance(id2label, dict):
        raise ValueError(f"id2label is a {type(id2label).__name__}; give names by number, e.g. {{0: 'run', 1: 'sit'}}")
    numbers = [_parse_class_number(key, field="id2label") for key in id2label]
    names = dict(zip(numbers, id2label.values(), strict=True))
    missing = next((number for number in range(len(id2label)) if number not in names), None)
    if missing is not None:
        odd = sorted(number for number in numbers if number < 0 or number >= len(id2label))
        also = f", and has {odd[0]}" if odd else ", and has another number twice"
        raise ValueError(
            f"id2label names {len(id2label)} classes, but not class {missing}{also}; number them from 0 to "
            f"{len(id2label) - 1}, as the rows of the classifier"
        )
    for number, name in names.items():
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise ValueError(f"id2label names class {number} {_SHORT_REPR.repr(name)}; give a text")
    return {number: str(names[number]) for number in range(len(names))}


def _invert_id2label(names: dict[int, str]) -> dict[str, int]:
    """Return the number of each name, the first one for a repeated name."""
    numbers: dict[str, int] = {}
    for number, name in names.items():
        numbers.setdefault(name, number)
    return numbers


def _parse_class_number(value: Any, *, field: str) -> int:
    if isinstance(value, str) and len(value) < 20 and value.strip().removeprefix("-").isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(
        f"{field} holds {_SHORT_REPR.repr(value)} instead of the number of a class; give a whole number, 0 or more"
    )


def _with_one_line_errors(build: Callable[..., None]) -> Callable[..., None]:
    """Report a field of a wrong type as a `ValueError` in one line."""

    @functools.wraps(build)
    def checked(self: VideoMAEConfig, *args: Any, **kwargs: Any) -> None:
        try:
            build(self, *args, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(format_strict_error(error)) from error

    return checked


VideoMAEConfig.__init__ = _with_one_line_errors(VideoMAEConfig.__init__)  # type: ignore[method-assign]

_GEOMETRY = {"image_size", "patch_size", "num_frames", "tubelet_size"}
# transformers handles these itself when it builds a configuration from a dictionary.
_HANDLED_BY_TRANSFORMERS = {"num_labels", "id2label", "label2id", "dtype", "output_hidden_states", "return_dict"}


def _pair(size: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise ValueError(f"{size} is neither one number nor (height, width)")
    return int(size[0]), int(size[1])


def _check_misspelled(extra: dict[str, Any], *, known: list[str]) -> None:
    """Refuse a field that is nearly a known name; transformers keeps unknown fields silently."""
    for name in extra:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if close and not name.startswith("_"):
            raise ValueError(f"VideoMAEConfig has no field {name!r}; did you mean {close[0]!r}?")


__all__ = ["PRESETS", "VideoMAEConfig"]

"""Test decoded frames given to the processor: every PIL mode and dtype has the right values or is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_videomae import VideoMAEVideoProcessor

pytestmark = pytest.mark.fault

SIDE = 32
GRAY = np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8)
RGB = np.stack([GRAY, GRAY.T, 255 - GRAY], -1)


def processor(**settings: object) -> VideoMAEVideoProcessor:
    return VideoMAEVideoProcessor(size=SIDE, num_frames=2, frame_stride=1, do_normalize=False, **settings)


def pixels(frame: object, **settings: object) -> np.ndarray:
    """Return (H, W, C) in [0, 1] of a video of this frame."""
    clip = processor(**settings)([frame, frame], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(clip[0], clip[1])
    return clip[0].permute(1, 2, 0).numpy()


def picture(mode: str) -> Image.Image:
    color = Image.fromarray(RGB)
    if mode in ("L", "1", "LA", "La"):
        return (
            Image.fromarray(GRAY).convert("LA").convert(mode) if mode == "La" else Image.fromarray(GRAY).convert(mode)
        )
    if mode in ("P", "PA"):
        return color.quantize(64).convert(mode)
    return color.convert("RGBA").convert(mode) if mode == "RGBa" else color.convert(mode)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_pil_images_match_pillows_conversion(mode: str) -> None:
    image = picture(mode)
    expected = np.asarray((image.convert("LA") if mode == "La" else image).convert("RGB")) / 255
    assert pixels(image) == pytest.approx(expected, abs=1e-6)
    assert expected.std() > 0.2


def test_palette_with_transparency_keeps_its_colors(tmp_path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(RGB).quantize(16).save(path, transparency=3)
    image = Image.open(path)
    assert image.mode == "P" and "transparency" in image.info
    assert pixels(image) == pytest.approx(np.asarray(image.convert("RGB")) / 255, abs=1e-6)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("highest", [65535, 4095, 200])
def test_16_bit_pil_images_are_refused_with_a_remedy(mode: str, highest: int) -> None:
    values = (GRAY.astype(float) / 255 * highest).astype(">u2" if mode.endswith("B") else "<u2")
    image = Image.frombytes(mode, (SIDE, SIDE), values.tobytes())
    with pytest.raises(ValueError, match=r"16 bits.*65535"):
        pixels(image)
    with pytest.warns(UserWarning, match="already"):  # the remedy
        assert pixels(np.asarray(image) / highest)[..., 0] == pytest.approx(GRAY / 255, abs=0.006)


def test_16_bit_png_is_refused_instead_of_white(tmp_path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(GRAY.astype(np.uint16) * 257).save(path)
    with pytest.raises(ValueError, match="65535"):
        pixels(Image.open(path))


def test_32_bit_and_float_pil_images_are_read() -> None:
    assert pixels(Image.fromarray(GRAY.astype(np.int32)))[..., 0] == pytest.approx(GRAY / 255, abs=1e-6)
    assert pixels(Image.fromarray(GRAY.astype(np.float32)))[..., 0] == pytest.approx(GRAY / 255, abs=1e-6)
    with pytest.warns(UserWarning, match="already"):
        assert pixels(Image.fromarray((GRAY / 255).astype(np.float32)))[..., 0] == pytest.approx(GRAY / 255, abs=1e-6)
    with pytest.raises(ValueError, match="65535"):
        pixels(Image.fromarray(GRAY.astype(np.int32) * 257))
    with pytest.raises(ValueError, match="65535"):
        pixels(Image.fromarray(GRAY.astype(np.float32) * 257))


@pytest.mark.parametrize(
    "kind", ["uint8", "uint16", "int16", "int32", "int64", "uint32", "uint64", "float32", "float64"]
)
def test_8_bit_values_in_any_dtype_agree(kind: str) -> None:
    assert pixels(RGB.astype(kind)) == pytest.approx(RGB / 255, abs=1e-6)


@pytest.mark.parametrize("kind", ["uint16", "int32", "uint32", "uint64", "float32", "float64"])
@pytest.mark.parametrize("scale", [4, 16, 257])
def test_values_beyond_8_bits_are_refused_with_a_remedy(kind: str, scale: int) -> None:
    with pytest.raises(ValueError, match="65535"):
        pixels(RGB.astype(kind) * scale)


@pytest.mark.parametrize(("bits", "scale"), [(16, 257), (12, 4095 / 255)])
def test_rescale_factor_reads_more_bits(bits: int, scale: float) -> None:
    wide = (RGB.astype(float) * scale).round().astype(np.uint16)
    assert pixels(wide, rescale_factor=1 / (2**bits - 1)) == pytest.approx(RGB / 255, abs=1e-3)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_between_0_and_1_stay_unchanged(kind: str) -> None:
    with pytest.warns(UserWarning, match="already"):
        assert pixels((RGB / 255).astype(kind)) == pytest.approx(RGB / 255, abs=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_pixels_are_refused(value: float) -> None:
    broken = (RGB / 255).astype(np.float32)
    broken[3, 4, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        pixels(broken)


def test_frames_of_different_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="one type"):
        processor()([RGB, RGB / 255.0])


def test_palette_for_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="palette"):
        processor(image_mean=[0.5] * 2, image_std=[0.5] * 2)([picture("P")] * 2)
    four = processor(image_mean=[0.5] * 4, image_std=[0.5] * 4)([picture("P")] * 2)["pixel_values"]
    assert four[0].shape[1] == 4

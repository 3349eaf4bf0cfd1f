"""Generate the built-in motion dataset: short H.264 clips whose label is the motion alone.

Every clip shows one large glowing ellipse in front of a sky, filmed by a slightly shaking camera. It moves, rotates,
grows or shrinks, and that is the label. A single frame says nothing about the label, by construction: the position,
the angle and the size of the ellipse are each a point on a circle (the image plane is a torus, the angle is an angle,
the size runs through a range and starts over). The point starts uniformly, and a constant speed along a circle keeps
it uniform. So at any single time all classes look the same, and only time tells them apart.

What is masked can be predicted from its surroundings, as in natural video, and a tiny model learns to within minutes:
the sky is always lighter below, and the glow shows far from the ellipse where it is. With a different background in
every clip, a model learns for a thousand steps how backgrounds continue before it sees the shape; with fine random
texture, or with flat areas that contain only codec noise, the patch-normalized loss could never go below 1.

Frames are drawn with plain multiplications and additions from rounded parameters, so they are the same on every
machine; the encoded bytes also depend on the encoder's version.
"""

import hashlib
import io
import math
import random
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, first_line
from ..video.decoding import VideoBackendError
from .source import Sample

# Shapes: T frames, H and W pixels.
CLASS_NAMES = (
    "move_left",
    "move_right",
    "move_up",
    "move_down",
    "rotate_clockwise",
    "rotate_counterclockwise",
    "grow",
    "shrink",
)
SPLIT_SIZES = {"train": 2048, "validation": 512, "test": 512}
NUM_FRAMES = 24
FRAME_RATE = 12.0
IMAGE_SIZE = 64

# The torus is larger than the image, so that a shape leaves on one side before it enters on the other.
TORUS = 72.0
MIN_RADIUS, MAX_RADIUS = 18.0, 26.0  # radius of the ellipse along its longer axis, in pixels
# The ellipse's tint ends softly at its outline, and partly as a wide glow: (share of the tint, width in pixels).
EDGES = ((0.6, 6.0), (0.4, 40.0))
# Part of the seed of a clip: raise it with any change to what is drawn.
_VERSION = 3

Field = np.ndarray


@dataclass(frozen=True)
class Motion:
    """Describe motion per frame: `x` and `y` in pixels, `angle` in radians, the size as a share of its range."""

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    size: float = 0.0


def _draw_motion(label: int, rng: random.Random) -> Motion:
    # All three speeds are drawn for every class, so that all classes use the same random numbers.
    pixels, radians, share = rng.uniform(0.9, 1.6), rng.uniform(0.08, 0.14), 1 / rng.uniform(28.0, 40.0)
    return (
        Motion(x=-pixels),
        Motion(x=pixels),
        Motion(y=-pixels),
        Motion(y=pixels),
        Motion(angle=radians),
        Motion(angle=-radians),
        Motion(size=share),
        Motion(size=-share),
    )[label]


def _wave(u: Field) -> Field:
    # A sine made of two parabolas: unlike sin it is the same on every machine.
    s = (u - np.floor(u)) * np.float32(2) - np.float32(1)
    return s * (np.float32(1) - np.abs(s)) * np.float32(4)


def _per_frame(values: list[float]) -> Field:
    # Rounding hides last-bit differences between the math libraries of two machines.
    return np.array([round(value, 6) for value in values], dtype=np.float32).reshape(-1, 1, 1)


def _shake(rng: random.Random, num_frames: int) -> Field:
    """Return the offset of a hand-held camera along one axis, (T, 1, 1) in pixels."""
    waves = [(rng.uniform(0.2, 0.6), rng.uniform(6.0, 18.0), rng.uniform(0, math.tau)) for _ in range(2)]
    return _per_frame(
        [sum(a * math.sin(math.tau * t / period + phase) for a, period, phase in waves) for t in range(num_frames)]
    )


def _wrap_distance(distance: Field) -> Field:
    half = np.float32(TORUS / 2)
    return distance - np.floor((distance + half) * np.float32(1 / TORUS)) * np.float32(TORUS)


@dataclass(frozen=True)
class _Gradient:
    """Colors along one direction: a linear gradient with soft bands. Slopes are per unit of length."""

    direction: tuple[float, float]
    base: tuple[float, ...]
    slope: tuple[float, ...]
    bands: float
    wavelength: float

    def along(self, u: Field, v: Field) -> Field:
        """Return the positions in the gradient, from coordinates."""
        position = u * np.float32(self.direction[0]) + v * np.float32(self.direction[1])
        return position + _wave(position * np.float32(1 / self.wavelength)) * np.float32(self.bands)

    def color(self, position: Field, channel: int) -> Field:
        """Return the brightness of a channel, 0 to 255, at positions in the gradient."""
        return position * np.float32(self.slope[channel]) + np.float32(self.base[channel])


def _draw_gradients(rng: random.Random) -> tuple[_Gradient, _Gradient]:
    """Return the sky (lengths in pixels) and the tint that the ellipse adds to it (lengths in radii)."""
    sky = _Gradient(
        direction=(0.0, 1.0),
        base=tuple(rng.uniform(75, 105) for _ in range(3)),
        slope=tuple(rng.uniform(0.5, 0.9) for _ in range(3)),
        bands=rng.uniform(0, 3),
        wavelength=rng.uniform(40, 80),
    )
    angle = rng.uniform(0, math.tau)
    tint = _Gradient(
        direction=(round(math.cos(angle), 6), round(math.sin(angle), 6)),
        base=tuple(rng.uniform(60, 110) for _ in range(3)),
        slope=tuple(rng.choice((-1, 1)) * rng.uniform(1, 2) for _ in range(3)),
        bands=rng.uniform(0, 0.05),
        wavelength=rng.uniform(0.9, 1.6),
    )
    return sky, tint


def _ellipse(u: Field, v: Field, aspect: float) -> Field:
    """Return about the distance to the outline in units of the longer radius, negative inside."""
    ratio = np.float32(1 / aspect)
    return (np.sqrt(u * u + (v * ratio) * (v * ratio)) - np.float32(1)) * np.float32(aspect)


def _coverage(distance: Field) -> Field:
    """Return the share of the tint, in [0, 1], from the signed distance to the outline in pixels."""
    covered = np.zeros_like(distance)
    for share, width in EDGES:
        covered += np.float32(share) * np.clip(np.float32(0.5) - distance * np.float32(1 / width), 0, 1)
    return covered


def render_clip(
    label: int, *, rng: random.Random, num_frames: int = NUM_FRAMES, image_size: int = IMAGE_SIZE
) -> Field:
    """Draw one clip of class `label`.

    Args:
        label: index into `CLASS_NAMES`.
        rng: source of everything else; the same state gives the same frames on every machine.
        num_frames: length of the clip.
        image_size: height and width in pixels; the scene grows with it.

    Returns:
        (T, 3, H, W) uint8, RGB.
    """
    motion = _draw_motion(label, rng)
    x, y, angle, size = rng.uniform(0, TORUS), rng.uniform(0, TORUS), rng.uniform(0, math.tau), rng.random()
    aspect = rng.uniform(0.6, 0.85)
    sky, tint = _draw_gradients(rng)
    shake_x, shake_y = _shake(rng, num_frames), _shake(rng, num_frames)

    frames = range(num_frames)
    pixels = (np.arange(image_size, dtype=np.float32) + np.float32(0.5)) * np.float32(IMAGE_SIZE / image_size)
    camera_x, camera_y = pixels.reshape(1, 1, -1) + shake_x, pixels.reshape(1, -1, 1) + shake_y
    dx = _wrap_distance(camera_x - _per_frame([x + motion.x * t for t in frames]))
    dy = _wrap_distance(camera_y - _per_frame([y + motion.y * t for t in frames]))
    radii = [MIN_RADIUS * (MAX_RADIUS / MIN_RADIUS) ** ((size + motion.size * t) % 1.0) for t in frames]
    angles = [angle + motion.angle * t for t in frames]
    cosine = _per_frame([math.cos(a) / r for a, r in zip(angles, radii, strict=True)])
    sine = _per_frame([math.sin(a) / r for a, r in zip(angles, radii, strict=True)])
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine

    inside = _coverage(_ellipse(u, v, aspect) * _per_frame(radii))
    center = np.float32(IMAGE_SIZE / 2)
    above, surface = sky.along(camera_x - center, camera_y - center), tint.along(u, v)
    clip = np.empty((num_frames, 3, image_size, image_size), dtype=np.uint8)
    for channel in range(3):
        color = sky.color(above, channel) + inside * tint.color(surface, channel)
        clip[:, channel] = np.clip(color + np.float32(0.5), 0, 255)
    return clip


def encode_clip(frames: Field, *, frame_rate: float = FRAME_RATE) -> bytes:
    """Encode (T, 3, H, W) uint8 as an MP4 file (H.264, yuv420p), of so high a quality that smooth areas stay smooth.

    Raises:
        VideoBackendError: when no H.264 encoder works on this machine.
    """
    failures = []
    for name, encode in (("torchcodec", _encode_with_torchcodec), ("pyav", _encode_with_pyav)):
        try:
            return encode(frames, frame_rate)
        # torchcodec raises RuntimeError both for missing libraries and for an FFmpeg without H.264.
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            failures.append(f"{name}: {first_line(error)}")
    raise VideoBackendError(
        f"the motion dataset needs an H.264 encoder, and none works here ({'; '.join(failures)}); install FFmpeg "
        f"with libx264 (apt-get install ffmpeg), or PyAV (pip install av)"
    )


# One thread: with several, the file depends on the number of cores.
_ENCODER_OPTIONS = {"preset": "ultrafast", "qp": "8", "threads": "1"}


def _encode_with_torchcodec(frames: Field, frame_rate: float) -> bytes:
    import torch
    from torchcodec.encoders import VideoEncoder

    encoder = VideoEncoder(torch.from_numpy(frames), frame_rate=frame_rate)
    encoded = encoder.to_tensor("mp4", codec="libx264", pixel_format="yuv420p", extra_options=_ENCODER_OPTIONS)
    return encoded.numpy().tobytes()


def _encode_with_pyav(frames: Field, frame_rate: float) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(frame_rate), options=_ENCODER_OPTIONS)
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "yuv420p"
        for frame in frames.transpose(0, 2, 3, 1):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


class MotionSource:
    """The motion dataset as a `Source`. Clip i is made on demand, from (seed, split, i) only.

    Args:
        split: one of `SPLIT_SIZES`.
        seed: another seed makes another dataset.
        num_videos: clips in this split; the classes take turns, so they are balanced.
        cache_bytes: maximum bytes of encoded clips kept in memory per process.

    Raises:
        DataError: for an unknown split or fewer than one clip.
    """

    name = "motion"

    def __init__(
        self, *, split: str = "train", seed: int = 0, num_videos: int | None = None, cache_bytes: int = 128 * 2**20
    ) -> None:
        if split not in SPLIT_SIZES:
            raise DataError(f"the motion dataset has no split {split!r}; choose one of {', '.join(SPLIT_SIZES)}")
        self.split, self.seed = split, seed
        self.num_videos = SPLIT_SIZES[split] if num_videos is None else num_videos
        if self.num_videos < 1:
            raise DataError(f"the motion dataset was asked for {self.num_videos} videos; ask for at least one")
        self.class_names: list[str] | None = list(CLASS_NAMES)
        self._cache_limit, self._cache_size = cache_bytes, 0
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> Sample:
        if index not in self._cache:
            self._add_to_cache(index, encode_clip(self.frames(index)))
        return Sample(id=f"{self.split}/{index}", video=self._cache[index], label=index % len(CLASS_NAMES))

    def frames(self, index: int) -> Field:
        """Return the clip before encoding: (T, 3, H, W) uint8."""
        if not 0 <= index < self.num_videos:
            raise IndexError(f"clip {index} of {self.num_videos}")
        key = f"motion {_VERSION} {self.seed} {self.split} {index}".encode()
        rng = random.Random(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "big"))
        return render_clip(index % len(CLASS_NAMES), rng=rng)

    def _add_to_cache(self, index: int, video: bytes) -> None:
        self._cache[index] = video
        self._cache_size += len(video)
        while self._cache_size > self._cache_limit and len(self._cache) > 1:
            self._cache_size -= len(self._cache.popitem(last=False)[1])

    def __getstate__(self) -> dict[str, object]:
        # A spawned worker makes its own clips, which is cheaper than sending them.
        return {**self.__dict__, "_cache": OrderedDict(), "_cache_size": 0}

"""Test the loader with real files: all of them load, with the frames that a player shows."""

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from hf_videomae.data import ClipConfig, build_loader, open_source
from hf_videomae.data.sampler import epoch_permutation
from hf_videomae.video.sampling import pretrain_indices
from tests.helpers.datasets_on_disk import DAMAGES, damage
from tests.helpers.real_clips import CLIPS, assert_same_frames, ffmpeg_frames, needs_ffmpeg

SMALL = ClipConfig(num_frames=4, stride=2, image_size=32)


# Every file.


def account(folder: Path, *, max_bad_share: float) -> dict[str, int]:
    """Load one epoch in two workers, and return what happened to the files."""
    source: Any = open_source(str(folder))
    loader = build_loader(source, clip_config=SMALL, batch_size=1, seed=0, num_workers=2, max_bad_share=max_bad_share)
    batches = list(islice(loader, len(source)))
    assert all(batch["pixel_values"].isfinite().all() for batch in batches)
    used = [batch["sample_ids"][0] for batch in batches]
    drawn = [source[int(place)].id for place in epoch_permutation(len(source), seed=0, epoch=0)]
    refused = {entry["id"] for entry in loader.bad_videos}
    # Only what was refused was replaced, and by nothing that was refused.
    assert {id for id, got in zip(drawn, used, strict=True) if id != got} == refused - set(used)
    return {
        "files": len(source),
        "decoded": len(set(used)),
        "replaced": sum(id != got for id, got in zip(drawn, used, strict=True)),
        "refused": len(refused),
    }


def test_every_real_file_is_loaded(clips_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "clips and four damaged ones"
    shutil.copytree(clips_dir, mixed)
    for kind in DAMAGES:
        shutil.copyfile(clips_dir / "mma_demo.mp4", mixed / f"{kind}.mp4")
        damage(mixed / f"{kind}.mp4", kind)
    table = {
        "clips": account(clips_dir, max_bad_share=0),
        "ut_interaction": account(data_dir, max_bad_share=0),
        "clips and four damaged ones": account(mixed, max_bad_share=0.5),
    }
    rows = [
        ["set", "files", "decoded", "replaced", "refused"],
        *([name, *row.values()] for name, row in table.items()),
    ]
    print(*("| " + " | ".join(map(str, row)) + " |" for row in rows), sep="\n")
    assert [tuple(row.values()) for row in table.values()] == [(20, 20, 0, 0), (83, 83, 0, 0), (24, 20, 4, 4)]


# Every frame.


def clips_of(path: Path, *, size: tuple[int, int], num_frames: int, stride: int, count: int) -> list[torch.Tensor]:
    """Return `count` clips (T, 3, H, W) of one file in levels of 255, from `count` epochs in two workers."""
    settings = ClipConfig(
        num_frames=num_frames,
        stride=stride,
        image_size=size,
        augment="center_crop",
        image_mean=(0.0, 0.0, 0.0),
        image_std=(1.0, 1.0, 1.0),
    )
    loader = build_loader(
        open_source(str(path)), clip_config=settings, batch_size=1, seed=0, num_workers=2, max_bad_share=0
    )
    return [batch["pixel_values"][0] * 255 for batch in islice(loader, count)]


def template(digit: int) -> torch.Tensor:
    """Return an image of a digit in the font of the file: DejaVu Sans, from matplotlib, 30 pixels high."""
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    picture = Image.new("L", (60, 60))
    ImageDraw.Draw(picture).text((15, 10), str(digit), fill=255, font=ImageFont.truetype(str(font), 30))
    return ink(torch.from_numpy(np.array(picture)).float())


def ink(picture: torch.Tensor) -> torch.Tensor:
    """Crop the letter and resize it to one size."""
    rows, columns = torch.where(picture > 100)
    letter = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return torch.nn.functional.interpolate(letter[None, None], size=(24, 16), mode="area").flatten()


def read_numbers(clip: torch.Tensor) -> list[int]:
    """Read the digits in frames of 128 x 128 pixels, white on blue after the word Frame."""
    place = clip[:, :, 48:82, 100:128].mean(1)
    letters = [ink((one - 85).clamp(min=0) * 255 / 170) for one in place]  # blue is a gray of 85
    alike = torch.corrcoef(torch.stack([*map(template, range(10)), *letters]))[10:, :10]
    assert alike.max(1).values.min() > 0.9
    return alike.argmax(1).tolist()


def test_numbers_in_frames_match_planned_indices(clips_dir: Path) -> None:
    """The numbers are read from the pixels, independently of the decoder."""
    clips = clips_of(clips_dir / "tc_h265_video.mp4", size=(128, 128), num_frames=4, stride=2, count=12)
    found = [read_numbers(clip) for clip in clips]
    print(found)
    assert all(numbers == list(range(numbers[0], numbers[0] + 8, 2)) for numbers in found)
    assert {numbers[0] for numbers in found} == {0, 1, 2}
    (whole,) = clips_of(clips_dir / "tc_h265_video.mp4", size=(128, 128), num_frames=10, stride=1, count=1)
    # The published plan never reaches the last frame of a short video.
    assert read_numbers(whole) == [*range(9), 8]


@needs_ffmpeg
def test_clip_frames_equal_ffmpeg_frames(clips_dir: Path) -> None:
    path = clips_dir / "tc_h265_video.mp4"
    played = ffmpeg_frames(path, (128, 128))
    for clip in clips_of(path, size=(128, 128), num_frames=4, stride=2, count=4):
        assert_same_frames(clip, played[read_numbers(clip)])


@needs_ffmpeg
@pytest.mark.parametrize("name", [name for name in CLIPS if name.endswith(".mov")])
def test_clips_of_rotated_and_trimmed_files_equal_player_frames(clips_dir: Path, name: str) -> None:
    num_frames, size, _ = CLIPS[name]
    played = ffmpeg_frames(clips_dir / name, size).float()
    plans = [pretrain_indices(num_frames, num_frames=2, stride=1, start=start) for start in range(num_frames - 1)]
    for clip in clips_of(clips_dir / name, size=size, num_frames=2, stride=1, count=6):
        # Which of the plans was drawn, the clip must tell; one of them it must be.
        assert_same_frames(clip, min((played[plan] for plan in plans), key=lambda wanted: (clip - wanted).abs().sum()))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["dec_video_90.mov", "dec_video_180.mov"])
def test_clip_of_rotated_file_differs_from_coded_frames(clips_dir: Path, name: str) -> None:
    """Otherwise the test above would not cover rotation."""
    played, coded = (ffmpeg_frames(clips_dir / name, CLIPS[name][1], rotated=rotated) for rotated in (True, False))
    (clip,) = clips_of(clips_dir / name, size=CLIPS[name][1], num_frames=3, stride=1, count=1)
    plan = pretrain_indices(3, num_frames=3, stride=1)
    assert_same_frames(clip, played[plan])
    assert (clip - coded[plan].float()).abs().mean() > 20

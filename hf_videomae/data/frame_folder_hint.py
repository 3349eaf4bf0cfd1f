"""Return the error message for a folder of images, with the ffmpeg command that makes a video of it."""

import os
import re
import shlex
from pathlib import Path

from ..text import escape_non_utf8
from .video_files import IMAGE_EXTENSIONS, file_extension

_NUMBER = re.compile(r"(.*?)(\d+)(\.\w+)")
# Odd sizes are padded by a pixel, because H.264 needs even ones.
_ENCODE = "-vf 'pad=ceil(iw/2)*2:ceil(ih/2)*2' -pix_fmt yuv420p"


def describe_frame_folder(root: Path) -> str:
    """Return why a folder of images cannot be read, with the command that makes a video of each folder."""
    folders = [
        (folder, sorted(images))
        for folder, _, files in os.walk(root, followlinks=True)
        if (images := [name for name in files if file_extension(name) in IMAGE_EXTENSIONS])
    ]
    names = folders[0][1]
    count = sum(len(images) for _, images in folders)
    extension = os.path.splitext(names[0])[1]
    return escape_non_utf8(
        f"{root} holds no videos but {count} images ({extension}) in {len(folders)} folders; if they are frames, make "
        f"a video of each folder, with its own frame rate, and give the folder again: "
        f"find {shlex.quote(str(root))} -name '*{extension}' -exec dirname {{}} + | sort -u | while read -r d; do "
        f'ffmpeg -nostdin -framerate 25 {_ffmpeg_input(names, extension)} {_ENCODE} "$d.mp4"; done'
    )


def _ffmpeg_input(names: list[str], extension: str) -> str:
    """Return FFmpeg's input: in the order of the names, or of their numbers if these have different lengths."""
    matches = [_NUMBER.fullmatch(name) for name in names]
    stems = {match[1] for match in matches if match is not None}
    lengths = {len(match[2]) for match in matches if match is not None}
    if None not in matches and len(stems) == 1 and len(lengths) > 1:
        first = min(int(match[2]) for match in matches if match is not None)
        return f'-start_number {first} -i "$d/{stems.pop()}%d{extension}"'
    return f'-pattern_type glob -i "$d/*{extension}"'

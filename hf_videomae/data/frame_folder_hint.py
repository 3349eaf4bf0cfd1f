"""Return the error message for a folder of images, with the ffmpeg command that makes a video of it."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..text import escape_non_utf8

_NUMBER = re.compile(r"(.*?)(\d+)(\.\w+)")
# Odd sizes are padded by a pixel, because H.264 needs even ones.
_ENCODE = "-vf 'pad=ceil(iw/2)*2:ceil(ih/2)*2' -pix_fmt yuv420p"


def describe_frame_folder(root: Path, images: Sequence[str]) -> str:
    """Return why a folder of images cannot be read, with the command that makes a video of each folder."""
    num_folders = len({os.path.dirname(image) for image in images})
    names = [os.path.basename(image) for image in images if os.path.dirname(image) == os.path.dirname(images[0])]
    extension = os.path.splitext(names[0])[1]
    return escape_non_utf8(
        f"{root} holds no videos but {len(images)} images ({extension}) in {num_folders} folders; if they are frames, "
        f"make a video of each folder, with its own frame rate, and give the folder again: "
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

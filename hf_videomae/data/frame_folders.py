"""Recognize videos that were taken apart into pictures, and say how to make videos of them."""

import os
import re
import shlex
from pathlib import Path

from ..records import readable
from .video_files import IMAGE_EXTENSIONS, extension_of

_NUMBER = re.compile(r"(.*?)(\d+)(\.\w+)")
# Sizes that are odd are padded by a pixel: H.264 wants even ones.
_ENCODE = "-vf 'pad=ceil(iw/2)*2:ceil(ih/2)*2' -pix_fmt yuv420p"


def describe_frames(root: Path) -> str:
    """Return why a folder of pictures cannot be read, with the command that makes a video of each folder of them."""
    folders = [
        (folder, sorted(pictures))
        for folder, _, files in os.walk(root, followlinks=True)
        if (pictures := [name for name in files if extension_of(name) in IMAGE_EXTENSIONS])
    ]
    names = folders[0][1]
    count = sum(len(pictures) for _, pictures in folders)
    ending = os.path.splitext(names[0])[1]
    return readable(
        f"{root} holds no videos but {count} pictures ({ending}) in {len(folders)} folders; if they are frames, make "
        f"a video of each folder, with its own frame rate, and give the folder again: "
        f"find {shlex.quote(str(root))} -name '*{ending}' -exec dirname {{}} + | sort -u | while read -r d; do "
        f'ffmpeg -nostdin -framerate 25 {_inputs(names, ending)} {_ENCODE} "$d.mp4"; done'
    )


def _inputs(names: list[str], ending: str) -> str:
    """Return FFmpeg's input: in the order of the names, or of their numbers where these are of different lengths."""
    found = [_NUMBER.fullmatch(name) for name in names]
    stems = {match[1] for match in found if match is not None}
    lengths = {len(match[2]) for match in found if match is not None}
    if None not in found and len(stems) == 1 and len(lengths) > 1:
        first = min(int(match[2]) for match in found if match is not None)
        return f'-start_number {first} -i "$d/{stems.pop()}%d{ending}"'
    return f'-pattern_type glob -i "$d/*{ending}"'

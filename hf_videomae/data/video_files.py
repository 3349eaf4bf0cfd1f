"""Find the video files under a folder, and count the other files."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..text import escape_non_utf8

# Extensions of files that the decoders read; the tests make and decode one of each.
VIDEO_EXTENSIONS = frozenset(
    ".264 .265 .3g2 .3gp .3gpp .apng .asf .av1 .avi .dav .divx .dv .f4p .f4v .flv .gif .h264 .h265 .hevc .ivf .lrv "
    ".m1v .m2p .m2t .m2ts .m2v .m4v .mjpeg .mjpg .mk3d .mkv .mov .mp4 .mp4v .mpe .mpeg .mpegts .mpg .mpv .mts .mxf "
    ".nut .obu .ogm .ogv .qt .rm .rmvb .tod .tp .trp .ts .vob .vro .webm .wmv .wtv .xvid .y4m".split()
)
# Lists of other files, which FFmpeg would open too: never a video.
PLAYLIST_EXTENSIONS = frozenset(
    ".asx .concat .cue .f4m .ffcat .ffconcat .ism .isml .m3u .m3u8 .mpd .pls .ram .rtsp .sdp .smil .strm .wpl "
    ".xspf".split()
)
IMAGE_EXTENSIONS = frozenset(
    ".avif .bmp .heic .heif .jfif .jpe .jpeg .jpg .png .ppm .svg .tga .tif .tiff .webp".split()
)
ARCHIVE_EXTENSIONS = frozenset(".7z .bz2 .gz .rar .tgz .xz .zip .zst".split())
# Audio and shards: counted, but not reported as possible videos.
_OTHER_EXTENSIONS = frozenset(".aac .aiff .arrow .flac .m4a .mid .mp3 .oga .ogg .opus .parquet .wav .wma".split())
# Notes, annotations and programs, which most data sets contain.
_ANNOTATION_EXTENSIONS = frozenset(
    ".ass .bat .bib .c .cff .cpp .csv .db .doc .docx .gitattributes .gitignore .h .h5 .hdf5 .htm .html .ini "
    ".ipynb .json .jsonl .log .m .mat .md .md5 .npy .npz .pdf .pickle .pkl .pt .pth .py .rst .safetensors "
    ".sh .sha1 .sha256 .srt .ssa .tex .toml .tsv .txt .vtt .xgtf .xls .xlsx .xml .yaml .yml".split()
)
_ANNOTATION_NAMES = frozenset(
    "authors citation copying dockerfile license licence makefile notice readme _success".split()
)
# Folders that archives and file servers leave behind.
_SYSTEM_FOLDERS = frozenset(
    ("__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
)
_MAX_SHOWN_EXTENSIONS = 8


def file_extension(name: str) -> str:
    """Return the extension of a file name, in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()


def is_video_file(name: str) -> bool:
    """Return whether a file has a video's extension and is not hidden (macOS leaves `._x.mp4`)."""
    return not name.startswith(".") and file_extension(name) in VIDEO_EXTENSIONS


@dataclass
class FolderScan:
    """Files under a folder; all paths are relative to it, in posix form.

    Attributes:
        videos: sorted.
        other_media: files with unknown extensions, sorted.
        images, others: numbers of files by extension; `others` are audio and shards.
        index_files: files with one of the requested names, at any depth, sorted.
        duplicate_links: links to videos that are also in the folder under another name.
        unreadable: folders that cannot be listed, with the reason.
        empty: folders without files or folders (hidden ones do not count), sorted.
    """

    videos: list[str] = field(default_factory=list)
    other_media: list[str] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    index_files: list[str] = field(default_factory=list)
    duplicate_links: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def is_frame_folder(self) -> bool:
        """Return whether the folder holds images and no videos."""
        return not self.videos and sum(self.images.values()) > 1

    def count_skipped(self) -> Counter[str]:
        """Return the numbers of files that are not videos, by extension; notes and annotations do not count."""
        return Counter(map(file_extension, self.other_media)) + self.images + self.others

    @property
    def archives(self) -> str:
        """Return the extensions of the archives in the folder; "" if there are none."""
        return ", ".join(sorted(ARCHIVE_EXTENSIONS & self.count_skipped().keys()))

    def describe_skipped(self) -> str:
        """Return the files that are not videos, to follow a sentence that says so."""
        return f" (but {describe_extensions(self.count_skipped())})" if self.count_skipped() else ""

    def notes(self) -> list[str]:
        """Return notes on what was left out, one line each."""
        notes = []
        count_skipped = self.count_skipped()
        if count_skipped:
            notes.append(f"left out: {describe_extensions(count_skipped)}; these endings are not taken for videos")
        if self.duplicate_links:
            first = escape_non_utf8(self.duplicate_links[0])
            notes.append(
                f"left out: {len(self.duplicate_links)} that are the same file as another video here (links), the "
                f"first is {first}"
            )
        if self.unreadable:
            notes.append(
                f"left out: {len(self.unreadable)} folders that cannot be read, the first is "
                f"{escape_non_utf8(self.unreadable[0])}"
            )
        if self.empty:
            notes.append(
                f"{len(self.empty)} folders are empty, the first is {escape_non_utf8(self.empty[0])}/; a class or "
                f"split without videos does not count"
            )
        gifs = sum(file_extension(path) == ".gif" for path in self.videos)
        if 0 < gifs < len(self.videos):
            notes.append(f"{gifs} of the {len(self.videos)} videos are GIF files; move them out if they are previews")
        return notes


def describe_extensions(counts: Counter[str]) -> str:
    """Return file extensions with their numbers: `12 .vob, 3 .xyz`."""
    shown = [
        f"{count} {extension or 'without an ending'}" for extension, count in counts.most_common(_MAX_SHOWN_EXTENSIONS)
    ]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} other endings" if more else "")


def find_videos(root: Path) -> list[str]:
    """Return the relative posix paths of all videos under a folder, sorted. Links are followed, each folder once."""
    return scan_folder(root).videos


def scan_folder(root: Path, *, index_names: Iterable[str] = ()) -> FolderScan:
    """List the videos and other files under a folder.

    Symbolic links are followed, each folder once. Hidden and system files and folders (`__MACOSX`) are skipped.

    Args:
        root: the folder.
        index_names: names of index files to look for.
    """
    scan, visited, wanted = FolderScan(), {os.path.realpath(root)}, frozenset(index_names)
    links: dict[str, str] = {}
    real_root = os.path.realpath(root)

    def unreadable(error: OSError) -> None:
        scan.unreadable.append(f"{os.path.relpath(error.filename, root)} ({error.strerror})")

    for folder, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        is_empty = all(map(_is_hidden, folders)) and all(name.startswith(".") for name in files)
        folders[:] = [name for name in folders if not _is_hidden(name) and _is_first_visit(folder, name, visited)]
        relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
        is_linked = os.path.realpath(folder) != os.path.normpath(os.path.join(real_root, relative))
        if is_empty and folder != str(root):
            scan.empty.append(str(relative))
        for name in files:
            path = str(relative / name)
            if name in wanted:
                scan.index_files.append(path)
            elif is_video_file(name):
                scan.videos.append(path)
                if is_linked or os.path.islink(os.path.join(folder, name)):
                    links[path] = os.path.realpath(os.path.join(folder, name))
            else:
                _count_other(scan, path)
    _drop_duplicate_links(scan, links, root=root)
    for paths in (scan.videos, scan.other_media, scan.index_files, scan.empty):
        paths.sort()
    return scan


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".") or folder in _SYSTEM_FOLDERS


def _is_first_visit(folder: str, name: str, visited: set[str]) -> bool:
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return True
    target = os.path.realpath(path)
    is_new = target not in visited
    visited.add(target)
    return is_new


def _count_other(scan: FolderScan, path: str) -> None:
    name = os.path.basename(path)
    extension = file_extension(name)
    if (
        name.startswith(".")
        or extension in _ANNOTATION_EXTENSIONS
        or name.lower() in _ANNOTATION_NAMES
        or name == "Thumbs.db"
    ):
        return
    if extension in IMAGE_EXTENSIONS:
        scan.images[extension] += 1
    elif extension in _OTHER_EXTENSIONS:
        scan.others[extension] += 1
    else:
        scan.other_media.append(path)


def _drop_duplicate_links(scan: FolderScan, links: dict[str, str], *, root: Path) -> None:
    """Keep one name for each video that is in the folder and also linked there.

    The link is dropped, unless the linked folder is only a store: all its videos are linked from other folders, which
    then give the class and the split.
    """
    if not links:
        return
    real = {os.path.realpath(root / path): path for path in scan.videos if path not in links}
    duplicates = {link: real[target] for link, target in links.items() if target in real}
    linked_elsewhere = {path for link, path in duplicates.items() if os.path.dirname(link) != os.path.dirname(path)}
    unlinked_folders = {os.path.dirname(path) for path in real.values() if path not in linked_elsewhere}
    store_paths = {path for path in linked_elsewhere if os.path.dirname(path) not in unlinked_folders}
    dropped_paths = store_paths | {link for link, path in duplicates.items() if path not in store_paths}
    scan.videos[:] = [path for path in scan.videos if path not in dropped_paths]
    scan.duplicate_links += sorted(dropped_paths)

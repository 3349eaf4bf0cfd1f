"""List the files under a folder in one walk: videos, shards, index files and lists, and count the others."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..text import escape_non_utf8
from .list_detection import is_video_list

INDEX_FILES = ("index.csv", "metadata.csv", "metadata.jsonl")
METADATA_FILES = (*INDEX_FILES, "metadata.parquet")
SHARD_KINDS = {".parquet": "parquet", ".tar": "webdataset", ".arrow": "arrow"}

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
# Notes, annotations and programs, which most datasets contain.
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


def is_shard(name: str) -> bool:
    """Return whether a file is a shard of a dataset by its name: not hidden, a cache of `datasets` or an index."""
    is_other = name.startswith((".", "cache-")) or name in METADATA_FILES
    return os.path.splitext(name)[1] in SHARD_KINDS and not is_other


@dataclass
class FolderScan:
    """Files under a folder; all paths are relative to it, in posix form, and sorted.

    Attributes:
        root: the folder.
        num_files: how many files there are, of any kind.
        videos: video files.
        shards: Parquet, WebDataset and Arrow files.
        index_files: files with one of the names in `METADATA_FILES`.
        lists: lists of videos at the top, and in the folders there that hold no videos.
        images: images.
        other_media: files with unknown extensions.
        others: numbers of audio files and shards, by extension.
        duplicate_links: links to videos that are also in the folder under another name.
        unreadable: folders that cannot be listed, with the reason.
        empty: folders without files or folders (hidden ones do not count).
    """

    root: Path
    num_files: int = 0
    videos: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    index_files: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    other_media: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    duplicate_links: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def top_index(self) -> Path | None:
        """Return the index file at the top; None if there is none."""
        return next((self.root / name for name in INDEX_FILES if name in self.index_files), None)

    @property
    def is_frame_folder(self) -> bool:
        """Return whether the folder holds images and no videos."""
        return not self.videos and len(self.images) > 1

    def count_skipped(self) -> Counter[str]:
        """Return the numbers of files that are not videos, by extension; notes and annotations do not count."""
        return Counter(map(file_extension, [*self.other_media, *self.images])) + self.others

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


def scan_folder(root: Path) -> FolderScan:
    """List the files under a folder. Each folder is listed once, because that is slow on a network disk.

    Symbolic links are followed, each folder once. Hidden and system files and folders (`__MACOSX`) are skipped.
    """
    scan, visited, links = FolderScan(root), {os.path.realpath(root)}, dict[str, str]()
    pending = [("", False)]
    while pending:
        folder, is_linked = pending.pop()
        try:
            with os.scandir(root / folder) as listing:
                entries = list(listing)
        except OSError as error:
            scan.unreadable.append(f"{folder or '.'} ({error.strerror})")
            continue
        # An entry knows its type without a request to the disk, unless it is a link.
        folders = [entry for entry in entries if (os.path.isdir(entry) if entry.is_symlink() else entry.is_dir())]
        folder_names = {entry.name for entry in folders}
        files = [entry for entry in entries if entry.name not in folder_names]
        folders = [entry for entry in folders if not entry.name.startswith(".") and entry.name not in _SYSTEM_FOLDERS]
        if folder and not folders and all(entry.name.startswith(".") for entry in files):
            scan.empty.append(folder)
        prefix = f"{folder}/" if folder else ""
        inner = [entry for entry in folders if not entry.is_symlink() or _is_first_visit(entry, visited)]
        pending += [(prefix + entry.name, is_linked or entry.is_symlink()) for entry in reversed(inner)]
        for entry in files:
            path = prefix + entry.name
            _add_file(scan, path)
            if (is_linked or entry.is_symlink()) and is_video_file(entry.name):
                links[path] = os.path.realpath(entry)
        if "/" not in folder and not (folder and any(is_video_file(entry.name) for entry in files)):
            scan.lists += [prefix + entry.name for entry in files if is_video_list(entry.name)]
    _drop_duplicate_links(scan, links)
    for paths in (scan.videos, scan.shards, scan.index_files, scan.lists, scan.images, scan.other_media, scan.empty):
        paths.sort()
    return scan


def _is_first_visit(link: os.DirEntry[str], visited: set[str]) -> bool:
    target = os.path.realpath(link)
    is_new = target not in visited
    visited.add(target)
    return is_new


def _add_file(scan: FolderScan, path: str) -> None:
    name = os.path.basename(path)
    extension = file_extension(name)
    scan.num_files += 1
    if name in METADATA_FILES:
        scan.index_files.append(path)
    elif (
        name.startswith(".")
        or extension in _ANNOTATION_EXTENSIONS
        or name.lower() in _ANNOTATION_NAMES
        or name == "Thumbs.db"
    ):
        return
    elif extension in VIDEO_EXTENSIONS:
        scan.videos.append(path)
    elif extension in IMAGE_EXTENSIONS:
        scan.images.append(path)
    elif extension in _OTHER_EXTENSIONS:
        scan.others[extension] += 1
    else:
        scan.other_media.append(path)
    if is_shard(name):
        scan.shards.append(path)


def _drop_duplicate_links(scan: FolderScan, links: dict[str, str]) -> None:
    """Keep one name for each video that is in the folder and also linked there.

    The link is dropped, unless the linked folder is only a store: all its videos are linked from other folders, which
    then give the class and the split.
    """
    if not links:
        return
    real = {os.path.realpath(scan.root / path): path for path in scan.videos if path not in links}
    duplicates = {link: real[target] for link, target in links.items() if target in real}
    linked_elsewhere = {path for link, path in duplicates.items() if os.path.dirname(link) != os.path.dirname(path)}
    unlinked_folders = {os.path.dirname(path) for path in real.values() if path not in linked_elsewhere}
    store_paths = {path for path in linked_elsewhere if os.path.dirname(path) not in unlinked_folders}
    dropped_paths = store_paths | {link for link, path in duplicates.items() if path not in store_paths}
    scan.videos[:] = [path for path in scan.videos if path not in dropped_paths]
    scan.duplicate_links += sorted(dropped_paths)

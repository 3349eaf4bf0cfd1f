"""Test index files: headers, cells, separators, splits, segments, and where paths may lead."""

import json
import os
import random
from pathlib import Path

import pytest

from hf_videomae.data import DataError, describe_source, open_source, source_notes
from hf_videomae.data.index_files import parse_seconds
from tests.helpers.datasets_on_disk import write_folder, write_names
from tests.helpers.loaders import ids, load, take

pytestmark = pytest.mark.fault

A, B, C, D = "class_0/000.mp4", "class_1/001.mp4", "class_0/002.mp4", "class_1/003.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_names(tmp_path / "set", A, B, C, D)


def write_index(folder: Path, text: str | bytes, name: str = "index.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def rows_of(folder: Path, **options) -> list[tuple[str, object]]:
    source = open_source(str(folder), **options)
    names = source.class_names
    samples = [source[place] for place in range(len(source))]
    return [(sample.id, None if sample.label is None else names[sample.label]) for sample in samples]


def refusal(folder: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        open_source(str(folder), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Headers and separators.


@pytest.mark.parametrize(
    "text",
    [
        f"path, label\n{A}, run\n{B}, jump\n",
        f" Path ,LABEL \n{A},run\n{B},jump\n",
        f"\ufeffpath,label\r\n{A},run\r\n{B},jump\r\n",
        f"path;label\n{A};run\n{B};jump\n",
        f"path\tlabel\n{A}\trun\n{B}\tjump\n",
        f"sep=;\npath;label\n{A};run\n{B};jump\n",
        f"path|label\n{A}|run\n{B}|jump\n",
        f"path label\n{A} run\n{B} jump\n",
        f'"path","label"\n"{A}","run"\n"{B}","jump"\n',
        f"label,path\nrun,{A}\njump,{B}\n",
        f",path,label\ntrain,{A},run\ntest,{B},jump\n",  # pandas writes its index into a column without a name
        f"id,video_path,class\n1,{A},run\n2,{B},jump\n",
        f"File Name,Category,fps\n{A},run,25\n{B},jump,25\n",
        f"filename,target\n{A},run\n{B},jump\n",
        f"video,label\n{A},run\n{B},jump\n",
        f"path,label,\n{A},run,\n{B},jump,\n,,\n",
        f"path,label\n\n{A},run\n\n{B},jump\n\n",
        f"path,label\n./{A},run\nclass_0/../{B},jump\n",
        f"path,label\n{A.replace('/', chr(92))},run\n.\\{B.replace('/', chr(92))},jump\n",
        f"path,label\n/{A},run\n/{B},jump\n",
        f"path,label\n{A[:-4]},run\n{B[:-4]},jump\n",
        f"{A},run\n{B},jump\n",
        f"{A} run\n{B} jump\n",
        f"path,video,label\n{A},v1,run\n{B},v2,jump\n",
        f"clip_name,clip_path,label\n000,{A},run\n001,{B},jump\n",
        f"path,label\n{A},run\n{B},jump\n".encode("utf-16"),
    ],
)
def test_unambiguous_tables_are_read(folder: Path, text: str | bytes) -> None:
    assert rows_of(write_index(folder, text)) == [(A, "run"), (B, "jump")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"clips,label\n{A},run\n", ["no column `path` or `file_name`", "clips, label"]),
        (f"video,file,label\n{A},{B},run\n", ["`file` and `video` could both be the path", "video, file, label"]),
        (f"path,class,category\n{A},run,sport\n", ["`class` and `category` could both be the label"]),
        (f"path,label,label\n{A},run,jump\n", ["2 columns `label`"]),
        (f"path,label, Label\n{A},run,jump\n", ["2 columns `label`"]),
        (f"path,label\n{A},jump, high\n", ["row 1 has 3 cells for 2 columns", "quotes"]),
        (f'path,label\n{A},"run\n{B},jump\n', ["cannot be read", "unexpected end of data"]),
        (f"{A},run\n{B},jump,2\n", ["row 2", "3 columns", "path,label"]),
        (b"path,label\ncaf\xe9.mp4,run\n", ["cannot be read", "UTF-8"]),
        (b"PK\x03\x04\0\0path,label\n", ["cannot be read", "NUL"]),
        ("", ["lists no videos"]),
        (f'path,label\n{A},"run\n{B},jump\n{C},"walk"\n', ["cannot be read"]),
        (f'path,label\n{A},"run\n{B},jump\n{C},walk"\n', ["row 1", "line break", "quotation mark"]),
        (f"path,label\n,run\n{A},jump\n", ["1 of", "row 1", "no path"]),
    ],
)
def test_ambiguous_tables_raise(folder: Path, text: str | bytes, words: list[str]) -> None:
    message = refusal(write_index(folder, text))
    assert all(word in message for word in ["index.csv", *words]), message


def test_path_in_another_unicode_form_is_found(folder: Path) -> None:
    os.rename(folder / A, folder / "class_0" / "cafe\u0301.mp4")  # as macOS writes it
    write_index(folder, "path,label\nclass_0/caf\u00e9.mp4,run\n")
    assert rows_of(folder) == [("class_0/cafe\u0301.mp4", "run")]


def test_error_for_unlabeled_index_lists_columns(folder: Path) -> None:
    message = refusal(write_index(folder, f"path,tag\n{A},run\n{B},jump\n"), require_labels=True)
    assert (
        "index.csv has no column `label`" in message and "path, tag" in message and "add an index.csv" not in message
    )


# Splits.


@pytest.mark.parametrize(
    "words", [("train", " test "), ("Train", "TEST"), ("training ", "testing"), ("TRAIN", "eval")]
)
def test_split_cells_ignore_case_and_blanks(folder: Path, words: tuple[str, str]) -> None:
    train, test = words
    write_index(folder, f"path,label,split\n{A},run,{train}\n{B},jump,{train}\n{C},run,{test}\n{D},jump, {test}\n")
    assert [row[0] for row in rows_of(folder)] == [A, B]
    assert [row[0] for row in rows_of(folder, split="test")] == [C, D]


def test_column_of_splits_under_other_name_is_used(folder: Path) -> None:
    write_index(folder, f"path,label,Phase\n{A},run,train\n{B},jump,train\n{C},run,val\n{D},jump,val\n")
    assert [row[0] for row in rows_of(folder, split="validation")] == [C, D]
    source = open_source(str(folder))
    assert len(source) == 2 and "`phase` is read as the split" in source_notes(source)[0]


@pytest.mark.parametrize("column", ["is_train", "fold", "split_1"])
def test_possible_split_column_is_noted(folder: Path, column: str) -> None:
    write_index(folder, f"path,label,{column}\n{A},run,1\n{B},jump,2\n")
    (note,) = source_notes(open_source(str(folder)))
    assert f"`{column}` is not read" in note and "`split`" in note


def test_empty_split_cell_raises(folder: Path) -> None:
    message = refusal(write_index(folder, f"path,label,split\n{A},run,train\n{B},jump,\n{C},run,test\n"))
    assert "row 2 has no `split`" in message
    write_index(folder, f"path,label,split\n{A},run,\n{B},jump,\n")
    assert len(rows_of(folder)) == 2  # an empty column says nothing


# Missing labels.


@pytest.mark.parametrize("word", ["None", "NA", "n/a", "null", "NaN", "<NA>", "  ", "#N/A"])
def test_words_for_missing_label_are_not_classes(folder: Path, word: str) -> None:
    message = refusal(write_index(folder, f"path,label\n{A},run\n{B},{word}\n{C},jump\n"))
    assert "1 of 3 rows have no label" in message and B in message and "another name" in message
    write_index(folder, f"path,label\n{A},{word}\n{B},{word}\n")
    assert open_source(str(folder)).class_names is None


def test_numbers_keep_their_spelling(folder: Path) -> None:
    write_index(folder, f"path,label\n{A},10\n{B},9\n{C},0\n")
    assert open_source(str(folder)).class_names == ["0", "9", "10"]


# Segments.


def test_segments_have_own_ids(folder: Path) -> None:
    write_index(
        folder, f"path,label,start,end\n{A},run,0.2,0.6\n{A},jump,0.6,\n{B},run,,0.5\n{C},jump,,\n{D},run,nan,\n"
    )
    source = open_source(str(folder))
    samples = [source[place] for place in range(5)]
    assert [sample.id for sample in samples] == [f"{A}@0.2-0.6", f"{A}@0.6-", f"{B}@0-0.5", C, D]
    assert [(sample.start, sample.end) for sample in samples] == [
        (0.2, 0.6), (0.6, None), (None, 0.5), (None, None), (None, None)
    ]  # fmt: skip
    assert len({sample.video for sample in samples}) == 4


def test_long_times_keep_their_digits(folder: Path) -> None:
    write_index(folder, f"path,start,end\n{A},12345.61,12345.64\n{A},12345.64,12345.67\n")
    assert rows_of(folder)[0][0] == f"{A}@12345.61-12345.64"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1.5", 1.5), (" 2 ", 2.0), ("", None), ("NaN", None), ("01:30", 90.0), ("1:00:02.5", 3602.5), ("1e1", 10.0)],
)
def test_times_are_parsed(text: str, seconds: float | None) -> None:
    assert parse_seconds(text) == seconds


def test_decimal_comma_is_read_in_table_with_semicolons(folder: Path) -> None:
    write_index(folder, f"path;start;end\n{A};0,25;0,5\n")
    assert rows_of(folder)[0][0] == f"{A}@0.25-0.5"


def test_segments_in_jsonl_are_read(folder: Path) -> None:
    rows = [
        {"file_name": A, "label": "run", "start": 0.25, "end": None},
        {"file_name": B, "label": "jump", "end": 0.5},
    ]
    write_index(folder, "".join(json.dumps(row) + "\n" for row in rows), "metadata.jsonl")
    assert rows_of(folder) == [(f"{A}@0.25-", "run"), (f"{B}@0-0.5", "jump")]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("2,1", "nothing lies between 2 and 1 s"),
        ("1,1", "nothing lies between 1 and 1 s"),
        ("-1,2", "negative"),
        ("inf,", "no number of seconds"),
        ("now,", "'now' is no number of seconds"),
    ],
)
def test_impossible_segment_raises(folder: Path, cells: str, words: str) -> None:
    message = refusal(write_index(folder, f"path,start,end\n{B},,\n{A},{cells}\n"))
    assert words in message and A in message and "1 of 2" in message


def test_repeated_segment_raises(folder: Path) -> None:
    message = refusal(write_index(folder, f"path,start,end\n{A},0.2,0.5\n{A},0.20,0.5\n"))
    assert f"the first is {A}@0.2-0.5" in message


def test_times_of_original_upload_cut_nothing(folder: Path) -> None:
    write_index(folder, f"path,label,youtube_id,time_start,time_end\n{A},run,abc,10,20\n{B},jump,def,3,13\n")
    source = open_source(str(folder))
    assert [source[place].id for place in range(2)] == [A, B] and source[0].start is None
    assert (
        "original upload (`youtube_id`)" in source_notes(source)[0] and "`start` and `end`" in source_notes(source)[0]
    )


def test_start_and_end_with_upload_id_cut_with_note(folder: Path) -> None:
    write_index(folder, f"path,youtube_id,start,end\n{A},abc,0.1,0.5\n")
    source = open_source(str(folder))
    assert source[0].start == 0.1 and "remove these columns" in source_notes(source)[0]


@pytest.mark.parametrize("columns", ["time_start,time_end", "start_time,end_time", "start_frame,end_frame"])
def test_other_time_columns_cut_nothing_with_note(folder: Path, columns: str) -> None:
    write_index(folder, f"path,label,{columns}\n{A},run,1,2\n{B},jump,1,2\n")
    assert "not used" in source_notes(open_source(str(folder)))[0]
    message = refusal(write_index(folder, f"path,label,{columns}\n{A},run,1,2\n{A},jump,2,3\n"))
    assert "more than once" in message and "`start` and `end`" in message


def test_training_sees_only_segments(tmp_path: Path) -> None:
    """Compare with a file cut to the segment: a batch has only frames between start and end."""
    folder = write_folder(tmp_path, count=4)
    write_index(folder, f"path,start,end\n{A},0.25,0.5\n{A},0.5,\n{B},0.9,9\n{C},0.8,0.9\n{D},5,6\n")
    loader = load(open_source(str(folder)), batch_size=2, max_bad_share=0.9)
    names = ids(take(loader, 8))
    assert f"{D}@5-6" not in names and f"{A}@0.25-0.5" in names and f"{A}@0.5-" in names
    assert "its segment starts at 5 s" in loader.bad_videos[0]["reason"]


# Several labels in one cell.


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("run;jump", "jump", "run, jump"),
        ("run|jump", "walk", "run, jump"),
        ('"run,jump"', "jump", "run, jump"),
        ('"run, jump"', "jump", "run, jump"),
        ('"run, jump"', '"jump, walk"', "run, jump"),
        ('"run,jump"', "walk", "run, jump"),
        ('"[""run"", ""jump""]"', "jump", "run, jump"),
        ("\"['run', 'jump']\"", "jump", "run, jump"),
        ('"1,2"', "3", "1, 2"),
        ("0;3", "3", "0, 3"),
    ],
)
def test_several_classes_in_single_label_data_raise(folder: Path, first: str, second: str, words: str) -> None:
    message = refusal(write_index(folder, f"path,label\n{A},{first}\n{B},{second}\n"))
    assert A in message and words in message and "--problem_type multi_label_classification" in message


@pytest.mark.parametrize(
    "names",
    [
        ("jump, high", "wave"),
        ("Inside, small room", "Inside, large room or hall"),
        ("Male speech, man speaking", "Speech"),
        ("playing 1,000 notes", "wave"),
        ("[Something] falling on [something]", "Putting [something] down"),
        ("tying knot (not on a tie)", "high-kick / jump & run"),
    ],
)
def test_class_names_with_punctuation_are_one_class(folder: Path, names: tuple[str, str]) -> None:
    write_index(folder, f'path,label\n{A},"{names[0]}"\n{B},"{names[1]}"\n')
    assert rows_of(folder) == [(A, names[0]), (B, names[1])]
    assert all("comma" in note for note in source_notes(open_source(str(folder))))


def test_list_with_one_entry_is_that_class(folder: Path) -> None:
    rows = [{"path": A, "label": ["run;fast"]}, {"path": B, "label": "jump"}]
    write_index(folder, "".join(json.dumps(row) + "\n" for row in rows), "metadata.jsonl")
    assert rows_of(folder) == [(A, "run;fast"), (B, "jump")]


@pytest.mark.parametrize(
    ("first", "second", "classes", "labels"),
    [
        ("run|jump", "jump", ["jump", "run"], [(0, 1), (0,)]),
        ("run;jump", "jump", ["jump", "run"], [(0, 1), (0,)]),
        ('"run,jump"', "jump", ["jump", "run"], [(0, 1), (0,)]),
        ('"[""run"", ""jump""]"', "jump", ["jump", "run"], [(0, 1), (0,)]),
        ('"[""jump, high"", ""run""]"', "run", ["jump, high", "run"], [(0, 1), (1,)]),
        ('"jump, high|run"', "run", ["jump, high", "run"], [(0, 1), (1,)]),
        ('"Inside, small room;Speech"', "Speech", ["Inside, small room", "Speech"], [(0, 1), (1,)]),
    ],
)
def test_multi_label_cells_are_split(
    folder: Path, first: str, second: str, classes: list[str], labels: list[tuple[int, ...]]
) -> None:
    write_index(folder, f"path,label\n{A},{first}\n{B},{second}\n")
    source = open_source(str(folder), label_kind="multi_label_classification")
    assert source.class_names == classes and [source[0].label, source[1].label] == labels


def test_empty_multi_label_list_means_no_class(folder: Path) -> None:
    rows = [{"path": A, "label": ["run", "jump"]}, {"path": B, "label": []}]
    write_index(folder, "".join(json.dumps(row) + "\n" for row in rows), "metadata.jsonl")
    source = open_source(str(folder), label_kind="multi_label_classification")
    assert [source[place].label for place in range(2)] == [(0, 1), ()]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ('"jump, high"', "walk", "JSON list"),
        ("run|jump;walk", "walk", "use | everywhere"),
        ('"run|jump,walk"', "walk", "use | everywhere"),
    ],
)
def test_ambiguous_multi_label_separators_raise(folder: Path, first: str, second: str, words: str) -> None:
    write_index(folder, f"path,label\n{A},{first}\n{B},{second}\n")
    assert words in refusal(folder, label_kind="multi_label_classification")


# Where paths may lead.


@pytest.mark.parametrize("how", ["parent", "absolute", "file link", "folder link"])
def test_path_out_of_data_folder_raises_unless_allowed(folder: Path, how: str) -> None:
    secret = write_names(folder.parent / "private", A) / A
    path = {"parent": f"../private/{A}", "absolute": str(secret)}.get(how, "link.mp4")
    if how == "file link":
        (folder / "link.mp4").symlink_to(secret)
    if how == "folder link":
        (folder / "linked").symlink_to(secret.parent)
        path = "linked/000.mp4"
    write_index(folder, f"path,label\n{B},run\n{path},jump\n")
    message = refusal(folder)
    assert "outside of set" in message and f"--allow_paths {secret.parent}" in message and path in message
    source = open_source(str(folder), allow_paths=[str(secret.parent)])
    assert Path(source[1].video).resolve() == secret.resolve()
    with pytest.raises(DataError, match="outside of set"):
        open_source(str(folder), allow_paths=[str(folder / "class_0")])


def test_absolute_path_and_links_within_folder_are_read(folder: Path) -> None:
    (folder / "link.mp4").symlink_to(folder / B)
    write_index(folder, f"path,label\n{folder / A},run\nlink.mp4,jump\n")
    assert rows_of(folder) == [(A, "run"), ("link.mp4", "jump")]


def test_hub_cache_snapshot_may_link_to_its_blobs(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "datasets--o--x" / "blobs", tmp_path / "datasets--o--x" / "snapshots" / "abc"
    write_names(blobs, A, B)
    snapshot.mkdir(parents=True)
    (snapshot / "a.mp4").symlink_to(blobs / A)
    (snapshot / "b.mp4").symlink_to(blobs / B)
    write_index(snapshot, "file_name,label\na.mp4,run\nb.mp4,jump\n", "metadata.csv")
    assert len(rows_of(snapshot)) == 2


@pytest.mark.parametrize("name", ["list.m3u8", "live.M3U8", "cast.mpd", "x.ffconcat", "s.sdp", "notes.txt"])
def test_listed_playlist_raises(folder: Path, name: str) -> None:
    (folder / name).write_text(f"#EXTM3U\n{A}\n")
    assert "is no video but a list or playlist" in refusal(write_index(folder, f"path\n{A}\n{name}\n"))


def test_listed_url_raises(folder: Path) -> None:
    message = refusal(write_index(folder, f"path,label\n{A},run\nhttp://127.0.0.1/x.mp4,jump\n"))
    assert "it is a URL" in message and "http://127.0.0.1/x.mp4" in message


def test_description_counts_videos_and_classes(folder: Path) -> None:
    write_index(folder, f"path,label\n{A},run\n{B},jump\n")
    assert describe_source(open_source(str(folder))) == f"{folder}: 2 videos, 2 classes"


def test_index_of_ids_finds_files_of_its_folder(folder: Path) -> None:
    write_names(folder, "run/abc_000010_000020.mp4", "jump/def.mp4")
    write_index(folder, "label,youtube_id,time_start,time_end\nrun,abc,10,20\njump,def,3,13\nrun,gone,1,2\n")
    assert rows_of(folder) == [("run/abc_000010_000020.mp4", "run"), ("jump/def.mp4", "jump")]
    notes = " ".join(source_notes(open_source(str(folder))))
    assert "left out: 1 of the 3 videos" in notes and "gone" in notes


# Any bytes at all.

KINDS = ("single_label_classification", "multi_label_classification", "regression")
SEEDS = (
    f'path,label,split,start,end\n{A},run,train,0.5,1\n{B},"jump, high",test,,\n',
    f"{A} 1\n{B} 0\n",
    f'[{{"path": "{A}", "label": ["run", "jump"]}}, {{"id": "000", "template": "[a] b"}}]',
    f'{{"file_name": "{A}", "label": null, "start": 1e3}}\n{{"file_name": "{B}", "label": 2}}\n',
    "label,youtube_id,time_start,time_end,split\nrun,001,10,20,train\n",
)
SCRAPS = (
    b"\0", b'"', b'""', b"\xff", b"\xef\xbb\xbf", b"[", b"]", b"{", b"'", b",", b";", b"\t", b"|", b"\n", b"\r",
    b"nan", b"../", b"/", b"\\", b"://", b"1e999", b"-1", b"99999999999999999999", b"sep=;\n", b"path", b"label",
    b"(" * 200,
    "\u2028\u00a0\u0661".encode(), b"x" * 300, b"[[", b"null", b"C:\\", b"~", b"http://127.0.0.1/x.mp4", b"\xff\xfe",
)  # fmt: skip


@pytest.mark.parametrize("name", ["index.csv", "metadata.jsonl", "train.csv", "list.json", "videos.txt"])
def test_damaged_tables_are_read_or_raise_one_line(folder: Path, name: str) -> None:
    draw = random.Random(name)
    for turn in range(150):
        content = bytearray(SEEDS[turn % len(SEEDS)].encode())
        for _ in range(draw.randint(1, 6)):
            place = draw.randint(0, len(content))
            content[place : place + draw.choice((0, 0, 1, 5, 40))] = draw.choice(SCRAPS)
        write_index(folder, bytes(content), name)
        try:
            source = open_source(str(folder / name), label_kind=draw.choice(KINDS))
            assert all(os.path.isfile(source[place].video) for place in range(len(source)))
        except DataError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000, content

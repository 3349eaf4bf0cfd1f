"""Test file and class names that are not UTF-8: read like any others, and shown with `\\xe9` for such a byte."""

import io
import json
import os
import sys
from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification
from hf_videomae.cards.markdown import with_checksum
from hf_videomae.data import ClipConfig, DataError, MotionSource, Source, build_loader, open_source
from hf_videomae.inference import FeatureExtractor, load_classifier, load_features, predict, save_features
from hf_videomae.prepare import PrepareSettings, prepare
from hf_videomae.run_files import write_atomic, write_json
from hf_videomae.text import escape_non_utf8, escape_unencodable_stdout
from hf_videomae.training import PretrainRecipe, RunError
from hf_videomae.training.loss_curve import plot_loss_curve
from hf_videomae.video.decoding import BACKENDS, check_backends, open_video
from hf_videomae.video.encoding import EncodeSettings

pytestmark = pytest.mark.fault

IDS = [r"jump/a.mp4", r"run\xe9/b\xe9.mp4"]


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Write one video with a UTF-8 name, and one whose file and class are Latin-1."""
    folder = os.fsencode(tmp_path / "set")
    for index, name in enumerate((b"jump/a.mp4", b"run\xe9/b\xe9.mp4")):
        path = os.path.join(folder, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError:
            pytest.skip("this file system takes names in UTF-8 alone")
        with open(path, "wb") as file:
            file.write(MotionSource()[index].video)
    return str(tmp_path / "set")


def test_ids_and_classes_are_text(root: str) -> None:
    source = open_source(root, require_labels=True)
    assert isinstance(source, Source)
    assert source.class_names == ["jump", r"run\xe9"]
    assert [source[index].id for index in range(2)] == IDS
    json.dumps([source[index].id for index in range(2)]).encode("ascii")


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_decoder_opens_non_utf8_path(root: str, backend: str) -> None:
    if check_backends([backend])[backend] is not None:
        pytest.skip(f"{backend} is not installed")
    source = open_source(root)
    assert isinstance(source, Source)
    with open_video(source[1].video, backend=backend) as by_path, open_video(MotionSource()[1].video) as by_bytes:
        assert by_path.backend == backend
        assert (by_path.frames([0, 5]) == by_bytes.frames([0, 5])).all()


def test_training_reads_non_utf8_names_and_lists_bad_one(root: str) -> None:
    with open(os.fsencode(root) + b"/run\xe9/bad\xe8.mp4", "wb") as file:
        file.write(b"no video" * 20)
    loader = build_loader(
        open_source(root), clip_config=ClipConfig(num_frames=8, stride=2, image_size=32), batch_size=3, seed=0,
        num_workers=0, max_bad_share=0.9,
    )  # fmt: skip
    batch = next(iter(loader))
    assert set(batch["sample_ids"]) <= set(IDS)
    assert r"run\xe9/bad\xe8.mp4" in {bad["id"] for bad in loader.bad_videos}


def test_features_and_predictions_are_stored_by_escaped_name(root: str, tmp_path: Path) -> None:
    config = VideoMAEConfig.from_preset("tiny", id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})
    model = VideoMAEForVideoClassification(config).eval()
    names = {os.path.join(root, id) for id in IDS}
    for file_format in ("parquet", "safetensors"):
        folder = tmp_path / file_format
        for written in (2, 0):
            stored = save_features(FeatureExtractor(model), [root], folder, model="m", file_format=file_format)  # type: ignore[arg-type]
            assert stored.written == written
        assert load_features(folder).keys() == names
    answers = predict(model, root)
    assert {answer.video for answer in answers} == names and all(answer.error is None for answer in answers)


def test_prepare_keeps_non_utf8_names(root: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/odd\xe9")
    os.rename(root, odd)
    done = prepare(odd, tmp_path / "out", settings=PrepareSettings(encode=EncodeSettings(short_side=32)), jobs=1)
    assert done.report["kept"] == 2 and done.report["source"] == r"odd\xe9"
    assert done.report["classes"] == {"jump": 1, r"run\xe9": 1}
    assert r"odd\xe9" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


# What is written and printed.


def test_records_and_cards_escape_non_utf8_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert escape_non_utf8(name) == r"caf\xe9" and escape_non_utf8("café 跳") == "café 跳"
    write_atomic(tmp_path / "a.md", name)
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == r"caf\xe9"
    write_json(tmp_path / "a.json", {"dataset": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"dataset": name}
    assert r"caf\xe9" in with_checksum(name)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "epoch": 0, "loss": 1.0}) + "\n")
    plot_loss_curve(tmp_path, title=f"pretrain on {name}", baseline_name=None)
    assert (tmp_path / "loss.png").stat().st_size > 1000


def test_printing_non_utf8_names_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "ascii"):
        shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", shown)
        escape_unencodable_stdout()
        print(os.fsdecode(b"caf\xe9"), "跳")
        shown.flush()
        assert b"caf" in shown.buffer.getvalue()  # type: ignore[attr-defined]


def test_folders_for_weights_must_be_utf8(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe9l")
    for setting in ("output_dir", "model"):
        with pytest.raises(RunError, match=r"mod\\xe9l is not UTF-8"):
            PretrainRecipe(**{setting: odd})
    with pytest.raises(ValueError, match=r"mod\\xe9l is not UTF-8"):
        load_classifier(odd)


def test_missing_folder_with_non_utf8_name_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder"):
        open_source(os.fsdecode(os.fsencode(tmp_path) + b"/gon\xe9"))

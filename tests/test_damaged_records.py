"""Test that a damaged JSON file is named, with what to do."""

from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor
from hf_videomae.checkpoint_dir import FETCHED_FROM_FILE, CheckpointError, checkpoint_source
from hf_videomae.cli import main
from hf_videomae.prepare.layout import VIDEOS_FILE
from hf_videomae.training import PretrainRecipe, RunError
from hf_videomae.training.lineage_record import _previous_run_record
from hf_videomae.training.pretrain_task import build_pretraining_model
from tests.helpers.datasets_on_disk import write_folder

pytestmark = pytest.mark.fault


def test_damaged_feature_settings_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=1)
    VideoMAEModel(config).save_pretrained(tmp_path / "model")
    VideoMAEVideoProcessor.from_config(config).save_pretrained(tmp_path / "model")
    videos = write_folder(tmp_path / "videos", count=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "features.json").write_text('{"model": ')
    with pytest.raises(SystemExit) as left:
        main(["features", str(videos), "--model", str(tmp_path / "model"), "--output_dir", str(tmp_path / "out")])
    error = capsys.readouterr().err.splitlines()[-1]
    assert left.value.code == 2 and "features.json is damaged" in error and "another folder" in error


def test_damaged_model_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(RunError, match=r"config\.json is damaged.*save_pretrained"):
        build_pretraining_model(PretrainRecipe(model=str(tmp_path), output_dir="run"), None)


def test_damaged_state_of_preparation_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hf_videomae.prepare import pipeline

    videos = write_folder(tmp_path / "videos", count=1)
    state = tmp_path / "out" / pipeline.WORK_FOLDER
    state.mkdir(parents=True)
    (state / pipeline._SETTINGS_FILE).write_text("{")
    with pytest.raises(SystemExit) as left:
        main(["prepare", str(videos), str(tmp_path / "out")])
    error = capsys.readouterr().err.splitlines()[-1]
    assert left.value.code == 2 and "is damaged" in error and f"remove {state}" in error


def test_damaged_origin_of_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / FETCHED_FROM_FILE).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=f"{FETCHED_FROM_FILE} is damaged.*another checkpoint"):
        checkpoint_source(tmp_path)


def test_damaged_run_record_stops_resume(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunError, match=r"run\.json is damaged.*--output_dir"):
        _previous_run_record(PretrainRecipe(output_dir=str(tmp_path), resume="auto"))


def test_damaged_list_of_prepared_set_rebuilds_its_clips(tmp_path: Path) -> None:
    videos = write_folder(tmp_path / "videos", count=2)
    main(["prepare", str(videos), str(tmp_path / "out")])
    before = sorted((tmp_path / "out").rglob("*.mp4")) or sorted((tmp_path / "out").rglob("*.parquet"))
    listed = next((tmp_path / "out").rglob(VIDEOS_FILE))
    listed.write_text('{"row": ')
    write_folder(videos, count=3)
    main(["prepare", str(videos), str(tmp_path / "out")])
    assert before and len(listed.read_text().splitlines()) == 3

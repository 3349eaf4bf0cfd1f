"""Test publishing prepared datasets with the real client on a local Hub, also while it fails."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, snapshot_download

from hf_videomae.cards.markdown import is_unedited, without_checksum
from hf_videomae.cli import main
from hf_videomae.data import MotionSource, StreamedSource, open_source
from hf_videomae.hub import retry
from hf_videomae.prepare import PrepareSettings, PushError, check_dataset_target, prepare, push_dataset
from hf_videomae.video.encoding import EncodeSettings
from tests.helpers.datasets_on_disk import write_folder
from tests.local_hub import LocalHub
from tests.local_hub.faults import STATUS_NOT_RETRIED_BY_CLIENT

ROOT = Path(__file__).resolve().parents[2]
ID = "org/set"


@pytest.fixture
def logged_in(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, fast_retries: None) -> LocalHub:
    """Log in as the user who may write to `org` and `team`."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a folder with six videos of two classes, two of them for validation."""
    write_folder(tmp_path / "raw" / "train", count=4)
    return write_folder(tmp_path / "raw" / "val", count=2).parent


def make(raw: Path, out: Path, **settings: Any) -> Path:
    small = PrepareSettings(encode=EncodeSettings(short_side=32), **settings)
    prepare(str(raw), out, settings=small, jobs=2)
    return out


def push(folder: Path, id: str = ID, *, source: str = "raw", **options: Any) -> Any:
    return push_dataset(folder, check_dataset_target(id, source=source, **options))


def contents(root: Path) -> dict[str, bytes]:
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != ".gitattributes"}


def samples(name: str, split: str) -> tuple[Any, list[Any]]:
    source = open_source(name, split=split, require_labels=True)
    assert isinstance(source, StreamedSource)
    read = [sample for shard in range(source.num_shards) for sample in source.read_shard(shard)]
    return (source.class_names, source.num_samples, source.num_shards), read


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_pushed_dataset_equals_local_one(logged_in: LocalHub, raw: Path, tmp_path: Path, format: str) -> None:
    out = make(raw, tmp_path / "out", format=format)
    (out / "notes.txt").write_text("mine, and not of the set")
    (out / ".prepare").mkdir()
    before = contents(out)
    pushed = push(out)
    assert pushed.removed == 0
    assert contents(out) == before
    there = contents(Path(snapshot_download(ID, repo_type="dataset")))
    assert there.keys() == before.keys() - {"notes.txt"} and pushed.files == len(there)
    card = there.pop("README.md").decode()
    assert f'load_dataset("{ID}"' in card and is_unedited(card)
    assert without_checksum(card) == without_checksum((out / "README.md").read_text()).replace("org/name", ID)
    assert all(before[name] == content for name, content in there.items())
    for split in ("train", "validation"):
        assert samples(ID, split) == samples(str(out), split)
    for sample in samples(ID, "validation")[1]:
        assert sample.label is not None and sample.id.startswith("data/validation-00000-of-00001.")


def test_second_push_sends_nothing(logged_in: LocalHub, raw: Path, tmp_path: Path) -> None:
    out = make(raw, tmp_path / "out")
    first = push(out)
    logged_in.forget()
    again = push(out)
    assert (again.files, again.num_bytes, again.removed, again.commit) == (0, 0, 0, first.commit)
    assert not logged_in.requests("^(PUT|POST|DELETE) ")


def test_only_changes_are_sent_and_stale_shards_deleted_in_same_commit(
    logged_in: LocalHub, raw: Path, tmp_path: Path
) -> None:
    out = make(raw, tmp_path / "out", num_shards=2)
    first = push(out)
    api = HfApi()
    api.upload_file(repo_id=ID, repo_type="dataset", path_in_repo="LICENSE", path_or_fileobj=b"mine")
    commit = len(api.list_repo_commits(ID, repo_type="dataset"))
    # The training split changes; the validation split's two shards of one video each stay.
    for video in (raw / "train").rglob("*.mp4"):
        video.unlink()
    write_folder(raw / "train", count=3)
    make(raw, out, num_shards=2)
    report = json.loads((out / "report.json").read_text())
    assert report["splits"]["validation"]["shards"] and report["splits"]["train"]["videos"] == 3
    logged_in.forget()
    push(out)
    sent = logged_in.requests("PUT /cdn-upload/")
    assert len(sent) <= 2, "shards of validation were sent again"
    make(raw, out, num_shards=1)
    pushed = push(out)
    assert pushed.removed == 4
    names = sorted(path for path in api.list_repo_files(ID, repo_type="dataset") if path.startswith("data/"))
    assert names == ["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"]
    assert "LICENSE" in api.list_repo_files(ID, repo_type="dataset")
    assert len(api.list_repo_commits(ID, repo_type="dataset")) == commit + 2
    # The first revision is still complete.
    old = open_source(ID, revision=first.commit)
    assert isinstance(old, StreamedSource) and old.num_shards == 2
    assert len([sample for shard in range(2) for sample in old.read_shard(shard)]) == 4


def test_private_repository_and_own_namespace(logged_in: LocalHub, raw: Path, tmp_path: Path) -> None:
    out = make(raw, tmp_path / "out")
    target = check_dataset_target("mine", source="raw", private=True)
    assert (target.id, target.url) == ("org/mine", f"{logged_in.endpoint}/datasets/org/mine")
    assert push_dataset(out, target).files and logged_in.is_private("datasets/org/mine")
    assert push(out, "mine", private=True).files == 0
    push(out, "team/public")
    with pytest.raises(PushError, match="team/public exists already and is public"):
        push(out, "team/public", private=True)


# Failures of the Hub.


@pytest.mark.parametrize("pattern", ["POST .*/preupload/", "POST .*objects/batch", "PUT /cdn-upload/", "/commit/"])
def test_transient_failure_of_upload_is_retried(logged_in: LocalHub, raw: Path, tmp_path: Path, pattern: str) -> None:
    out = make(raw, tmp_path / "out")
    logged_in.fail(pattern, status=STATUS_NOT_RETRIED_BY_CLIENT, times=2)
    push(out)
    assert samples(ID, "train") == samples(str(out), "train")
    assert len(HfApi().list_repo_commits(ID, repo_type="dataset")) == 2


@pytest.mark.parametrize("pattern", ["/whoami-v2", "/repos/create", "/tree/", "/validate-yaml"])
def test_transient_failure_of_other_request_is_retried(
    logged_in: LocalHub, raw: Path, tmp_path: Path, pattern: str
) -> None:
    out = make(raw, tmp_path / "out")
    logged_in.fail(pattern, status=STATUS_NOT_RETRIED_BY_CLIENT, times=2)
    push(out)
    push(out)
    assert samples(ID, "train") == samples(str(out), "train")


@pytest.mark.parametrize("failure", ["page of a proxy", "broken upload"])
def test_transient_failure_is_retried(logged_in: LocalHub, raw: Path, tmp_path: Path, failure: str) -> None:
    out = make(raw, tmp_path / "out")
    if failure == "page of a proxy":
        logged_in.fail("/validate-yaml", status=502)
    else:
        logged_in.hang_up("PUT /cdn-upload/", after_bytes=1000)
    push(out)
    assert samples(ID, "train") == samples(str(out), "train")


def test_card_refused_by_client_is_named(logged_in: LocalHub, raw: Path, tmp_path: Path) -> None:
    out = make(raw, tmp_path / "out")
    (out / "README.md").write_text("---\nlicense: [mit\n---\n\nMine.\n")
    with pytest.raises(PushError, match=r"was not published: Invalid metadata in README.md"):
        push(out)


def test_commit_with_lost_response_is_not_repeated(logged_in: LocalHub, raw: Path, tmp_path: Path) -> None:
    out = make(raw, tmp_path / "out")
    logged_in.cut_off("POST .*/commit/", after_bytes=0)
    pushed = push(out)
    commit = HfApi().list_repo_commits(ID, repo_type="dataset")
    assert len(commit) == 2 and commit[0].commit_id == pushed.commit


def test_second_push_continues_one_that_gave_up(
    logged_in: LocalHub, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_videomae.hub import commit

    out = make(raw, tmp_path / "out", num_shards=2)
    before = contents(out)
    # One file at a time, and the Hub fails at the commit.
    monkeypatch.setattr(commit, "_UPLOAD_BATCH_FILES", 1)
    monkeypatch.setattr(retry.RetryPolicy, "wait", lambda self, error: _give_up(error))
    logged_in.fail("/commit/", status=STATUS_NOT_RETRIED_BY_CLIENT)
    with pytest.raises(
        PushError, match=r"out is complete, but org/set was not published: .*; the same command continues"
    ):
        push(out)
    assert contents(out) == before
    assert HfApi().list_repo_files(ID, repo_type="dataset") == [".gitattributes"]
    logged_in.forget()
    push(out)
    assert not logged_in.requests("PUT "), "it was sent before"
    assert samples(ID, "train") == samples(str(out), "train")


def _give_up(error: BaseException) -> None:
    raise retry.SourceUnavailable("the network kept failing") from error


def test_commit_of_somebody_else_in_between_is_kept(
    logged_in: LocalHub, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_api

    out = make(raw, tmp_path / "out")
    push(out)
    make(raw, out, num_shards=2)
    validate = hf_api.HfApi._validate_yaml

    def slip_in(self: HfApi, *arguments: Any, **options: Any) -> None:
        validate(self, *arguments, **options)
        monkeypatch.setattr(hf_api.HfApi, "_validate_yaml", validate)
        HfApi().upload_file(repo_id=ID, repo_type="dataset", path_in_repo="a.txt", path_or_fileobj=b"x")

    monkeypatch.setattr(hf_api.HfApi, "_validate_yaml", slip_in)
    push(out)
    assert "a.txt" in HfApi().list_repo_files(ID, repo_type="dataset")
    assert samples(ID, "train") == samples(str(out), "train")


# Refusals.


def test_other_content_is_only_overwritten_on_request(logged_in: LocalHub, raw: Path, tmp_path: Path) -> None:
    out = make(raw, tmp_path / "out")
    (logged_in.dataset("org/thesis") / "chapter.txt").write_text("years of work")
    with pytest.raises(PushError, match=r"org/thesis holds other files \(chapter.txt, ...\), not one made of raw"):
        push(out, "org/thesis")
    push(out, "org/other")
    other = shutil.copytree(raw, tmp_path / "other raw")
    with pytest.raises(
        PushError, match="org/other holds a dataset made of raw, not one made of other raw; give another id"
    ):
        check_dataset_target("org/other", source=other.name)
    sha = HfApi().dataset_info("org/thesis").sha
    assert push(out, "org/thesis", overwrite=True).removed == 1
    assert "chapter.txt" not in HfApi().list_repo_files("org/thesis", repo_type="dataset")
    assert "chapter.txt" in HfApi().list_repo_files("org/thesis", repo_type="dataset", revision=sha)


def test_empty_repository_is_used(logged_in: LocalHub, raw: Path, tmp_path: Path) -> None:
    """Use a repository as the Hub's web pages make it: with a card that names a license."""
    (logged_in.dataset(ID) / "README.md").write_text("---\nlicense: mit\n---\n")
    push(make(raw, tmp_path / "out"))
    assert samples(ID, "train")[0][1] == 4


def test_incomplete_dataset_is_not_published(logged_in: LocalHub, raw: Path, tmp_path: Path) -> None:
    out = make(raw, tmp_path / "out")
    next((out / "data").iterdir()).unlink()
    with pytest.raises(ValueError, match="holds no complete dataset"):
        push(out)
    assert not HfApi().repo_exists(ID, repo_type="dataset")


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    try:
        status = main(["prepare", *map(str, arguments)])
    except SystemExit as error:
        status = int(error.code or 0)
    output, errors = capsys.readouterr()
    return status, output, errors


def user_errors() -> dict[str, tuple[dict[str, Any], list[str], str]]:
    """Return environment variables, arguments, and the expected message by case."""
    to = ["--push_to_hub", ID]
    return {
        "logged out": ({"HF_TOKEN": None}, to, "you are not logged in to the Hub; `hf auth login`"),
        "wrong token": ({"HF_TOKEN": "hf_wrong"}, to, "the Hub does not know the token that HF_TOKEN holds"),
        "read only": ({"HF_TOKEN": LocalHub.read_token}, to, "your token may only read; make one that may write"),
        "no such org": (
            {},
            ["--push_to_hub", "stranger/set"],
            "stranger/set is not yours: you are org, of team; give",
        ),
        "no id": ({}, ["--push_to_hub", "a/b/c"], "'a/b/c' is not a Hub id; give org/name"),
        "no target": ({}, ["--private"], "--private and --overwrite say how to publish; give --push_to_hub"),
    }


@pytest.mark.parametrize("case", user_errors())
def test_user_errors_are_one_line_before_the_work_begins(
    logged_in: LocalHub,
    raw: Path,
    tmp_path: Path,
    case: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, arguments, words = user_errors()[case]
    for name, value in settings.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    status, output, errors = run(capsys, raw, tmp_path / "out", *arguments)
    assert status == 2 and words in errors and errors.count("\n") == 1 and output == "", errors
    assert not (tmp_path / "out").exists()


def test_unreachable_or_offline_hub_is_refused_early(
    logged_in: LocalHub,
    raw: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hf_videomae.hub import repo

    monkeypatch.setattr(repo, "CHECK_SECONDS", 0.2)
    arguments = (raw, tmp_path / "out", "--push_to_hub", ID)
    with logged_in.outage():
        status, _, errors = run(capsys, *arguments)
    assert (
        status == 2 and "the Hub cannot be reached" in errors and "without --push_to_hub the dataset is made" in errors
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, _, errors = run(capsys, *arguments)
    assert status == 2 and "the Hub is switched off (HF_HUB_OFFLINE); unset it" in errors
    assert not (tmp_path / "out").exists()


def test_missing_write_access_shown_at_the_end_can_be_fixed(
    logged_in: LocalHub, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refuse to write, as with a fine-grained token: the same command publishes it once allowed."""
    arguments = (raw, tmp_path / "out", "--short_side", 32, "--push_to_hub", ID, "--private")
    logged_in.fail("/repos/create", status=403, times=None)
    status, output, errors = run(capsys, *arguments)
    last = errors.strip().splitlines()[-1]
    assert status == 2 and "6 of 6 videos" in output
    assert f"{tmp_path / 'out'} is complete, but {ID} was not published: you may not write to {ID} (" in last
    logged_in.heal()
    status, output, _ = run(capsys, *arguments)
    assert status == 0 and "is up to date, nothing was done" in output
    assert f"{ID}: 6 files, " in output and f"MB sent; {logged_in.endpoint}/datasets/{ID}" in output
    assert logged_in.is_private(f"datasets/{ID}")
    status, output, _ = run(capsys, *arguments)
    assert status == 0 and f"{ID} holds it already, nothing was sent" in output


@pytest.mark.integration
def test_command_in_own_process_publishes(hub: LocalHub, raw: Path, tmp_path: Path) -> None:
    """Use the token of `hf auth login`, not of the environment; then the dataset streams."""
    environment = hub.environment()
    hub.home.mkdir(exist_ok=True)
    (hub.home / "token").write_text(hub.token)
    command = [sys.executable, "-m", "hf_videomae.cli", "prepare", str(raw), str(tmp_path / "out")]
    command += ["--short_side", "32", "--push_to_hub", "set"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "org/set: 6 files" in done.stdout and "org/set: 100%" in done.stderr
    names, read = samples(ID, "train")
    assert names[0] == ["class_0", "class_1"] and len(read) == 4
    assert len({sample.video for sample in read}) == len({MotionSource()[index].id for index in range(4)}) == 4


@pytest.mark.integration
@pytest.mark.parametrize("failures", [0, 2])
def test_push_over_xet_is_one_commit(hub: LocalHub, raw: Path, tmp_path: Path, failures: int) -> None:
    """Let the first requests for a token fail."""
    pytest.importorskip("hf_xet")
    hub.fail("/xet-write-token/", status=STATUS_NOT_RETRIED_BY_CLIENT, times=failures)
    environment = {**hub.environment(xet=True), "HF_TOKEN": hub.token}
    command = [sys.executable, "-m", "hf_videomae.cli", "prepare", str(raw), str(tmp_path / "out")]
    command += ["--short_side", "32", "--push_to_hub", ID]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"{ID}: 6 files" in done.stdout, done.stderr
    assert hub.requests("GET .*/xet-write-token/") and not hub.requests("objects/batch|PUT ")
    assert len(hub.requests("POST .*/commit/")) == 1
    assert samples(ID, "train") == samples(str(tmp_path / "out"), "train")
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and f"{ID} holds it already, nothing was sent" in again.stdout, again.stderr


@pytest.mark.fault
@pytest.mark.parametrize("is_folder", [False, True])
def test_linked_files_outside_are_published_only_with_allow_paths(
    logged_in: LocalHub, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_folder: bool
) -> None:
    private = write_folder(tmp_path / "private", count=2)
    link, target = raw / "train" / "class_0" / "link", private / "class_0"
    (link if is_folder else link.with_suffix(".mp4")).symlink_to(target if is_folder else target / "000.mp4")
    command = ["prepare", str(raw), str(tmp_path / "out"), "--short_side", "32", "--jobs", "1"]
    assert main(command) == 0
    assert "1 of the videos lie outside" in capsys.readouterr().err
    for push_at_once in (tmp_path / "out", tmp_path / "new"):
        command[2] = str(push_at_once)
        with pytest.raises(SystemExit) as stop:
            main([*command, "--push_to_hub", ID])
        errors = capsys.readouterr().err
        assert stop.value.code == 2 and f"--allow_paths {target}" in errors and "link" in errors
    assert not HfApi().repo_exists(ID, repo_type="dataset")
    assert main([*command, "--push_to_hub", ID, "--allow_paths", str(target)]) == 0
    assert HfApi().repo_exists(ID, repo_type="dataset")

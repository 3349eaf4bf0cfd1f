"""Test which network failures are retried, for how long, and that no sample is lost, repeated or blamed for them."""

import email.utils
import json
import threading
import time
import urllib.error
from email.message import Message
from itertools import islice
from typing import Any

import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hf_videomae.data import ClipConfig, DataError, build_loader, open_source
from hf_videomae.hub import retry
from hf_videomae.hub.retry import (
    RETRY_SECONDS_VARIABLE,
    RetryPolicy,
    SourceUnavailable,
    cancel_waits_on,
    disable_datasets_retries,
    is_transient,
    outage_retry_seconds,
    retry_after,
    retry_transient,
    shard_retry_seconds,
)
from hf_videomae.hub.source_errors import SourceRefused
from tests.helpers.datasets_on_disk import write_parquet, write_videofolder, write_webdataset
from tests.local_hub import LocalHub
from tests.local_hub.clients import forget_connections
from tests.local_hub.faults import STATUS_NOT_RETRIED_BY_CLIENT, Fault

SETTINGS = ClipConfig(num_frames=4, stride=2, image_size=32)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits instead of sleeping; the clock advances by as much."""
    waited: list[float] = []
    monkeypatch.setattr(retry, "_sleep", waited.append)
    monkeypatch.setattr(retry.time, "monotonic", lambda: sum(waited))
    return waited


def http_error(status: int, **headers: str) -> urllib.error.HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return urllib.error.HTTPError("http://127.0.0.1/", status, "refused", message, None)


# Which errors are retried, and for how long.


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError("reset"), True),
        (TimeoutError(), True),
        (urllib.error.URLError(ConnectionRefusedError("refused")), True),
        (http_error(503), True),
        (http_error(429), True),
        (http_error(404), False),
        (http_error(401), False),
        (FileNotFoundError("gone"), False),
        (ValueError("no tar file"), False),
        (OfflineModeIsEnabled("off"), False),
    ],
)
def test_is_transient_follows_causes(error: Exception, transient: bool) -> None:
    assert is_transient(error) == transient
    wrapped = ValueError("it cannot be read")
    wrapped.__cause__ = error
    assert is_transient(wrapped) == transient


@pytest.mark.parametrize(("status", "transient"), [(500, True), (503, True), (403, False), (404, False)])
def test_is_transient_of_client_errors(hub: LocalHub, status: int, transient: bool) -> None:
    hub.fail("/api/models", status=status)
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi().model_info("org/name")
    assert is_transient(caught.value) == transient
    hub.stop()
    with pytest.raises(Exception) as away:  # noqa: B017 - the HTTP client's own
        HfApi().model_info("org/name")
    assert is_transient(away.value)


def test_closed_client_session_is_replaced(hub: LocalHub, fast_retries: None) -> None:
    """huggingface_hub closes the session of all threads when one thread cannot connect."""
    hub.model("org/name")
    tries: list[None] = []

    def ask() -> int:
        session = get_session()
        tries.append(None)
        if len(tries) == 1:
            forget_connections()
        return int(session.get(f"{hub.endpoint}/api/models/org/name").status_code)

    assert retry_transient(ask, RetryPolicy("a model")) == 200
    assert len(tries) == 2


def test_retry_after_reads_number_or_date() -> None:
    assert retry_after(http_error(429, Retry_After="7")) == 7
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 25 < (retry_after(http_error(503, Retry_After=date)) or 0) <= 30
    assert retry_after(http_error(503, Retry_After="soon")) is None
    assert retry_after(http_error(503)) is None and retry_after(ConnectionResetError()) is None


def test_waits_grow_with_jitter_until_time_is_up(waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    retry_policy = RetryPolicy("org/set", seconds=100)
    with pytest.raises(SourceUnavailable, match="failed|kept failing for .* s while org/set was read .reset.;"):
        while True:
            retry_policy.wait(ConnectionResetError("reset"))
    assert 50 < sum(waits) <= 100
    for number, wait in enumerate(waits):
        full = min(2**number, 30)
        assert full / 2 <= wait <= full
    assert [record.getMessage() for record in caplog.records] == ["org/set: reset; trying again for 100 s"]


def test_reset_restarts_backoff_and_clock(waits: list[float]) -> None:
    retry_policy = RetryPolicy("org/set", seconds=10)
    for _ in range(50):
        retry_policy.wait(ConnectionResetError("reset"))
        retry_policy.reset()
    assert max(waits) <= 1


def test_retry_after_header_sets_the_wait(waits: list[float]) -> None:
    retry_policy = RetryPolicy("org/set", seconds=10)
    retry_policy.wait(http_error(429, Retry_After="120"))
    assert 120 <= waits[0] <= 121
    with pytest.raises(SourceUnavailable):
        RetryPolicy("org/set", seconds=10).wait(http_error(503, Retry_After="120"))


def test_waits_of_processes_differ(waits: list[float]) -> None:
    for _ in range(20):
        RetryPolicy("org/set").wait(ConnectionResetError("reset"))
    assert len(set(waits)) > 10


def test_wait_is_canceled_by_event() -> None:
    canceled, ended = threading.Event(), []

    def wait() -> None:
        cancel_waits_on(canceled)
        try:
            RetryPolicy("org/set").wait(http_error(429, Retry_After="60"))
        except SourceUnavailable as error:
            ended.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    canceled.set()
    thread.join(timeout=10)
    assert ended == ["the wait for the network was canceled"]


def test_retries_of_datasets_are_restored() -> None:
    from datasets import config

    before = config.STREAMING_READ_MAX_RETRIES
    with pytest.raises(KeyError), disable_datasets_retries():
        assert config.STREAMING_READ_MAX_RETRIES == 1
        raise KeyError
    assert config.STREAMING_READ_MAX_RETRIES == before > 1


def test_overlapping_reads_restore_the_retries_of_datasets() -> None:
    from datasets import config

    before = config.STREAMING_READ_MAX_RETRIES
    first, second = disable_datasets_retries(), disable_datasets_retries()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert config.STREAMING_READ_MAX_RETRIES == 1
    second.__exit__(None, None, None)
    assert config.STREAMING_READ_MAX_RETRIES == before > 1


# HF_VIDEOMAE_HUB_PATIENCE.


@pytest.mark.fault
def test_env_variable_bounds_every_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RETRY_SECONDS_VARIABLE, raising=False)
    assert (outage_retry_seconds(), shard_retry_seconds(), shard_retry_seconds(20.0)) == (900.0, 60.0, 20.0)
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, "7.5")
    bounds = (outage_retry_seconds(), shard_retry_seconds(), shard_retry_seconds(20.0), RetryPolicy("x").seconds)
    assert bounds == (7.5,) * 4
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, "3600")
    assert (outage_retry_seconds(), shard_retry_seconds(), RetryPolicy("x").seconds) == (3600.0, 60.0, 3600.0)


@pytest.mark.fault
@pytest.mark.parametrize("value", ["soon", "-1", "inf", "nan"])
def test_invalid_env_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, value)
    with pytest.raises(DataError, match=f"{RETRY_SECONDS_VARIABLE} is '{value}'; give seconds"):
        outage_retry_seconds()


@pytest.mark.fault
@pytest.mark.slow
def test_opening_and_reading_give_up_in_time(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(hub.dataset("org/set"), rows=(6,))
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, "0.5")
    source = open_source("org/set")
    hub.fail("/cdn/|/resolve/", status=503, times=None)
    start = time.monotonic()
    with pytest.raises(DataError, match="the network kept failing"):
        list(source.read_shard(0))  # type: ignore[union-attr]
    # The client itself retries five times, within 23 s.
    assert time.monotonic() - start < 60
    hub.heal()
    hub.fail("/api/datasets/", status=503, times=None)
    with pytest.raises(DataError, match="the network kept failing|cannot be reached"):
        open_source("org/set")


# Opening.


class Nth(Fault):
    """A fault that hits only the n-th request, whatever it is."""

    def __init__(self, number: int, **what: Any) -> None:
        super().__init__("", **what)
        self._before = number

    def take(self, line: str) -> bool:
        self._before -= 1
        return self._before < 0 and super().take(line)


@pytest.mark.integration
@pytest.mark.parametrize(
    "what", [{"kind": "reset"}, {"kind": "status", "status": STATUS_NOT_RETRIED_BY_CLIENT}], ids=["reset", "status"]
)
def test_dataset_opens_whichever_request_fails(hub: LocalHub, fast_retries: None, what: dict[str, Any]) -> None:
    """When a run starts all processes ask at once, and a single one that gives up would end it."""
    write_parquet(hub.dataset("org/set"), rows=(2, 2))
    hit = []
    for number in range(100):
        forget_connections()
        hub.heal()
        hub.forget()
        hub.record.add_fault(Nth(number, **what))
        source = open_source("org/set")
        assert (source.name, source.num_shards) == ("org/set", 2)  # type: ignore[union-attr]
        faults = [request.line for request in hub.requests() if request.fault]
        if not faults:
            break
        hit += faults
    assert any(line.startswith("GET /api/datasets/org/set") for line in hit) and len(hit) == number >= 5


# Shards.


def read_all(source: Any) -> list[str]:
    return [sample.id for shard in range(source.num_shards) for sample in source.read_shard(shard)]


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "videofolder"])
def test_shard_read_continues_after_errors(hub: LocalHub, fast_retries: None, kind: str) -> None:
    write = {"parquet": write_parquet, "webdataset": write_webdataset, "videofolder": write_videofolder}[kind]
    write(hub.dataset("org/set"))  # type: ignore[operator]
    source = open_source("org/set")
    expected = read_all(source)
    hub.forget()
    hub.fail("GET .*/resolve/.*(parquet|tar|jsonl)", status=STATUS_NOT_RETRIED_BY_CLIENT, times=3)
    assert read_all(source) == expected
    assert sum(request.fault == "status" for request in hub.requests()) == 3


@pytest.mark.parametrize("after_bytes", [0, 512, 12_000])
def test_tar_file_is_read_whole_after_repeated_breaks(hub: LocalHub, fast_retries: None, after_bytes: int) -> None:
    write_webdataset(hub.dataset("org/set"))
    source = open_source("org/set")
    expected = [sample.video for shard in range(2) for sample in source.read_shard(shard)]  # type: ignore[union-attr]
    hub.cut_off("GET /cdn/", after_bytes=after_bytes, times=5, kind="truncate")
    videos = [sample.video for shard in range(2) for sample in source.read_shard(shard)]  # type: ignore[union-attr]
    assert len(videos) == 7 and videos == expected


def test_permanent_error_is_raised_at_once(hub: LocalHub) -> None:
    write_parquet(hub.dataset("org/set"))
    source = open_source("org/set")
    hub.forget()
    hub.fail("GET .*/resolve/", status=403, times=None)
    with pytest.raises(SourceRefused, match="org/set: .*data/train-.*403"):
        read_all(source)
    assert len(hub.requests("GET .*/resolve/")) == 1


def test_endless_outage_is_reported_in_one_line(
    hub: LocalHub, fast_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(hub.dataset("org/set"))
    source = open_source("org/set")
    monkeypatch.setattr("hf_videomae.hub.retry.OUTAGE_SECONDS", 0.5)
    monkeypatch.setattr("hf_videomae.hub.retry.SHARD_SECONDS", 0.1)
    hub.fail("GET .*/resolve/", status=STATUS_NOT_RETRIED_BY_CLIENT, times=None)
    with pytest.raises(DataError, match="kept failing for .* s while org/set, data/train-.*--resume") as caught:
        next(iter(build_loader(source, clip_config=SETTINGS, batch_size=2, seed=0)))
    assert "\n" not in str(caught.value)


def load(source: Any) -> Any:
    return build_loader(source, clip_config=SETTINGS, batch_size=3, seed=0, max_bad_share=0)


@pytest.fixture
def dataset_with_unreachable_shard(hub: LocalHub, fast_retries: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a dataset whose second shard cannot be reached at first."""
    monkeypatch.setattr("hf_videomae.hub.retry.SHARD_SECONDS", 0.1)
    write_parquet(hub.dataset("org/set"))
    source = open_source("org/set")
    hub.fail("GET .*/resolve/.*train-00001", status=STATUS_NOT_RETRIED_BY_CLIENT, times=5)
    return source


def test_unreachable_shard_is_deferred_and_no_sample_is_lost(
    hub: LocalHub, dataset_with_unreachable_shard: Any
) -> None:
    loader = load(dataset_with_unreachable_shard)
    ids = [name for batch in islice(loader, 6) for name in batch["sample_ids"]]
    hub.heal()
    assert sorted(ids) == sorted(read_all(dataset_with_unreachable_shard))
    assert [shard for shard, _ in loader.state_dict()["cursor"]["lanes"][0][0]["put_back"]] == [1]
    assert loader.bad_videos == []


def test_run_with_deferred_shard_resumes_exactly(hub: LocalHub, dataset_with_unreachable_shard: Any) -> None:
    loader = load(dataset_with_unreachable_shard)
    states, drawn = [], []
    for batch in islice(loader, 10):
        drawn.append(batch["sample_ids"])
        states.append(json.loads(json.dumps(loader.state_dict())))
    assert any(state["cursor"]["lanes"][0][0]["put_back"] for state in states)
    hub.heal()
    for step in (0, 3, 5, 7):
        again = load(dataset_with_unreachable_shard)
        again.load_state_dict(states[step])
        assert [batch["sample_ids"] for batch in islice(again, 9 - step)] == drawn[step + 1 :]


# Single files, read by the workers.


@pytest.mark.parametrize("workers", [0, 1])
def test_network_failure_is_not_a_bad_video(hub: LocalHub, fast_retries: None, workers: int) -> None:
    write_videofolder(hub.dataset("org/set"))
    source = open_source("org/set")
    hub.fail("GET .*/resolve/.*mp4", status=STATUS_NOT_RETRIED_BY_CLIENT, times=4)
    loader = build_loader(source, clip_config=SETTINGS, batch_size=2, seed=0, num_workers=workers, max_bad_share=0)
    ids = [name for batch in islice(loader, 3) for name in batch["sample_ids"]]
    assert len(set(ids)) == 6 and loader.bad_videos == []


def test_file_missing_on_hub_is_a_bad_video(hub: LocalHub) -> None:
    write_videofolder(hub.dataset("org/set"))
    source = open_source("org/set")
    hub.fail("GET .*/resolve/.*/3.mp4", status=404, times=None)
    loader = build_loader(source, clip_config=SETTINGS, batch_size=2, seed=0, max_bad_share=0.5)
    list(islice(loader, 6))
    (bad,) = loader.bad_videos
    assert bad["path"].endswith("3.mp4") and "cannot be downloaded" in bad["reason"]

"""Test that HF_VIDEOMAE_HUB_PATIENCE limits every wait for a Hub or a network."""

import time
from pathlib import Path

import pytest

from hf_videomae.data import DataError, open_source
from hf_videomae.hub.retry import RETRY_SECONDS_VARIABLE, RetryPolicy, outage_retry_seconds, shard_retry_seconds
from tests.helpers.datasets_on_disk import write_parquet
from tests.local_hub import LocalHub

pytestmark = pytest.mark.fault


def test_variable_limits_every_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RETRY_SECONDS_VARIABLE, raising=False)
    assert (outage_retry_seconds(), shard_retry_seconds(), shard_retry_seconds(20.0)) == (900.0, 60.0, 20.0)
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, "7.5")
    assert (outage_retry_seconds(), shard_retry_seconds(), shard_retry_seconds(20.0), RetryPolicy("x").seconds) == (
        7.5,
    ) * 4
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, "3600")
    assert (outage_retry_seconds(), shard_retry_seconds(), RetryPolicy("x").seconds) == (3600.0, 60.0, 3600.0)


@pytest.mark.parametrize("value", ["soon", "-1", "inf", "nan"])
def test_invalid_value_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, value)
    with pytest.raises(DataError, match=f"{RETRY_SECONDS_VARIABLE} is '{value}'; give seconds"):
        outage_retry_seconds()


@pytest.mark.slow
def test_opening_and_reading_give_up_in_time(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(Path(hub.dataset("org/set")), rows=(6,))
    monkeypatch.setenv(RETRY_SECONDS_VARIABLE, "0.5")
    source = open_source("org/set")
    hub.fail("/cdn/|/resolve/", status=503, times=None)
    begun = time.monotonic()
    with pytest.raises(DataError, match="the network kept failing"):
        list(source.read_shard(0))
    # The client tries five times by itself, within 23 s.
    assert time.monotonic() - begun < 60
    hub.heal()
    hub.fail("/api/datasets/", status=503, times=None)
    with pytest.raises(DataError, match="the network kept failing|cannot be reached"):
        open_source("org/set")

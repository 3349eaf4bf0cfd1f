"""Test that files of the Hub are verified, and downloaded again after a broken connection or damage."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification
from hf_videomae.data import DataError, open_source
from hf_videomae.hub.download import DamagedDownload, download_model, matches_checksum
from hf_videomae.hub.retry import SourceUnavailable
from hf_videomae.inference import load_classifier
from tests.helpers.datasets_on_disk import write_parquet, write_webdataset
from tests.local_hub import LocalHub
from tests.local_hub.clients import forget_connections

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("fast_retries")]
WEIGHTS = "GET .*/model.safetensors"


def read_all(source: Any) -> list[Any]:
    return [sample for shard in range(source.num_shards) for sample in source.read_shard(shard)]


def corrupt_file(path: Path, at: int) -> None:
    """Change one byte; the size stays."""
    blob = path.resolve()
    content = bytearray(blob.read_bytes())
    content[at] ^= 0x55
    blob.write_bytes(content)


# Cached shards.


@pytest.mark.parametrize("write", [write_parquet, write_webdataset])
def test_damaged_cached_shard_is_downloaded_again(
    hub: LocalHub, tmp_path: Path, write: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    write(hub.dataset("org/set"))
    cache = str(tmp_path / "cache")
    source: Any = open_source("org/set", cache_dir=cache)
    whole = read_all(source)
    damaged = Path(source.shard_cache.paths[1])
    corrupt_file(damaged, at=damaged.stat().st_size // 2)
    hub.forget()
    again = open_source("org/set", cache_dir=cache)
    assert read_all(again) == whole
    assert len(hub.requests("GET /cdn/")) == 1 and damaged.name in caplog.text
    hub.forget()
    assert read_all(again) == whole and hub.requests() == []


def test_shard_damaged_on_every_download_is_one_line(hub: LocalHub, tmp_path: Path) -> None:
    write_webdataset(hub.dataset("org/set"))
    source = open_source("org/set", cache_dir=str(tmp_path / "cache"))
    hub.corrupt("GET /cdn/.*train-001", after_bytes=3000, times=None)
    with pytest.raises(DataError, match="train-001.tar of org/set came damaged 3 times"):
        read_all(source)
    hub.heal()
    assert len(read_all(source)) == 7


def test_page_instead_of_cached_shard_is_one_line(hub: LocalHub, tmp_path: Path) -> None:
    write_webdataset(hub.dataset("org/set"))
    source = open_source("org/set", cache_dir=str(tmp_path / "cache"))
    hub.answer_page("GET /cdn/.*train-001", times=None)
    with pytest.raises(DataError, match="train-001.tar of org/set came damaged 3 times"):
        read_all(source)


# Models.


@pytest.fixture
def model(hub: LocalHub, tmp_path: Path) -> str:
    """Return a classifier that is on the Hub only."""
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_hidden_layers=1)
    VideoMAEForVideoClassification(config).save_pretrained(hub.model("org/model"))
    return "org/model"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_broken_connection_is_retried(hub: LocalHub, model: str, name: str) -> None:
    hub.cut_off(f"GET .*/{name}", after_bytes=100, times=2)
    assert load_classifier(model).config.num_hidden_layers == 1
    assert [request.fault for request in hub.requests(f"GET .*/{name}") if request.fault] == ["reset"] * 2


@pytest.mark.parametrize(("name", "at"), [("config.json", 40), ("model.safetensors", 9000)])
def test_damaged_download_is_repeated(
    hub: LocalHub, model: str, name: str, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    hub.corrupt(f"GET .*/{name}", after_bytes=at)
    load_classifier(model)
    assert f"{name} of org/model is damaged" in caplog.text
    assert all(matches_checksum(path) for path in Path(constants.HF_HUB_CACHE).rglob("snapshots/*/*"))


def test_weights_damaged_in_cache_are_downloaded_again(hub: LocalHub, model: str) -> None:
    # Copies, because the loaded weights are memory-mapped from the file.
    before = {name: value.clone() for name, value in load_classifier(model).state_dict().items()}
    (weights,) = Path(constants.HF_HUB_CACHE).rglob("model.safetensors")
    corrupt_file(weights, at=9000)
    after = load_classifier(model).state_dict()
    assert all((before[name] == after[name]).all() for name in before)


def test_weights_damaged_on_every_download_are_one_line(hub: LocalHub, model: str) -> None:
    hub.corrupt(WEIGHTS, after_bytes=9000, times=None)
    with pytest.raises(DamagedDownload, match="model.safetensors of org/model came damaged 3 times"):
        load_classifier(model)


def test_damaged_cache_without_hub_is_one_line(hub: LocalHub, model: str) -> None:
    load_classifier(model)
    (weights,) = Path(constants.HF_HUB_CACHE).rglob("model.safetensors")
    with hub.outage():
        download_model(model)
        corrupt_file(weights, at=9000)
        with pytest.raises(DamagedDownload, match="model.safetensors of org/model is damaged in .*cannot be reached"):
            download_model(model)


REFUSALS: dict[str, tuple[Callable[[LocalHub], None], str]] = {
    "401": (lambda hub: hub.fail("", status=401, times=None), "HTTP 401"),
    "403": (lambda hub: hub.fail(WEIGHTS, status=403, times=None), "model.safetensors.*HTTP 403"),
    "404": (lambda hub: hub.fail(WEIGHTS, status=404, times=None), "model.safetensors.*HTTP 404"),
    "451": (lambda hub: hub.fail("/api/", status=451, times=None), "HTTP 451"),
    "page": (lambda hub: hub.answer_page("", times=None), "what answers for the Hub is not the Hub"),
    "page of a file": (lambda hub: hub.answer_page(WEIGHTS, times=None), "model.safetensors.*damaged"),
    "short": (lambda hub: hub.shorten(WEIGHTS, after_bytes=500, times=None), "model.safetensors.*damaged"),
    "deleted": (lambda hub: hub.delete("models/org/model"), "deleted, renamed or made private"),
    "private": (lambda hub: hub.hide("models/org/model"), "made private"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_model_is_one_line(hub: LocalHub, model: str, case: str) -> None:
    begin, message = REFUSALS[case]
    forget_connections()
    begin(hub)
    with pytest.raises(ValueError, match=message) as caught:
        load_classifier(model)
    assert model in str(caught.value) and "\n" not in str(caught.value)


def test_only_files_that_transformers_loads_are_downloaded(hub: LocalHub, model: str) -> None:
    folder = hub.model(model)
    shutil.copy(folder / "model.safetensors", folder / "pytorch_model.bin")
    (folder / "loss.png").write_bytes(b"a picture")
    hub.forget()
    download_model(model)
    downloaded = {request.path.rpartition("/")[2] for request in hub.requests("GET .*(resolve|cdn)/")}
    assert downloaded == {"config.json", "model.safetensors"}


def test_intact_model_logs_nothing(hub: LocalHub, model: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hf_videomae"):
        load_classifier(model)
    assert not [record for record in caplog.records if record.name.startswith("hf_videomae")]


def test_uncached_model_of_unreachable_hub_is_refused_at_once(hub: LocalHub) -> None:
    hub.stop()
    start = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"org/nowhere is not in the cache.*cannot be reached"):
        download_model("org/nowhere")
    assert time.monotonic() - start < 5

"""Test the lineage of models and datasets, from folders and from a Hub on loopback, also while it fails."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hf_videomae.cards import resolve_dataset_lineage, resolve_model_lineage
from tests.local_hub import LocalHub

AT_ONCE = 520  # huggingface_hub does not retry this status by itself


def write(folder: Path, card: str = "", run: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n# A card\n")
    if run is not None:
        (folder / "run.json").write_text(json.dumps(run))
    return folder


def commit(kind: str, id: str) -> str:
    return str(HfApi().repo_info(id, repo_type=kind).sha)


def test_hub_model_with_base_model(hub: LocalHub) -> None:
    write(hub.model("org/child"), "license: mit\nbase_model: org/base")
    write(hub.model("org/base"), "license: cc-by-nc-4.0\nbase_model:\n- org/child")  # cards may go in circles
    base = {"model": "org/base", "hub_id": "org/base", "revision": commit("model", "org/base")}
    assert resolve_model_lineage("org/child") == {
        "model": "org/child",
        "hub_id": "org/child",
        "revision": commit("model", "org/child"),
        "license": "mit",
        "ancestors": [{**base, "license": "cc-by-nc-4.0"}],
    }


def test_run_record_takes_precedence_over_card(hub: LocalHub) -> None:
    first = {"model": "org/gone", "hub_id": "org/gone", "revision": "a" * 40, "license": "cc-by-nc-4.0"}
    middle = {"model": "path/to/pre", "hub_id": None, "revision": None, "license": None}
    write(hub.model("org/child"), "base_model: org/other", {"parents": [{**middle, "ancestors": [first]}]})
    assert resolve_model_lineage("org/child")["ancestors"] == [middle, first]


def test_lineage_is_read_at_the_loaded_commit(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    api, ids = HfApi(), []
    api.create_repo("org/model")
    for license in ("mit", "apache-2.0"):
        card = f"---\nlicense: {license}\n---\n".encode()
        ids.append(api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="org/model").oid)
    found = [resolve_model_lineage("org/model", commit=id) for id in (*ids, None)]
    assert [(one["revision"], one["license"]) for one in found] == [
        (ids[0], "mit"),
        (ids[1], "apache-2.0"),
        (ids[1], "apache-2.0"),
    ]


def test_commit_is_known_without_card_and_record(hub: LocalHub) -> None:
    (hub.model("MCG-NJU/videomae-base") / "config.json").write_text("{}")
    found = resolve_model_lineage("MCG-NJU/videomae-base")
    assert found["revision"] == commit("model", "MCG-NJU/videomae-base")
    assert (found["license"], found["ancestors"]) == ("cc-by-nc-4.0", []) and "unknown" not in found


def test_local_folder_names_its_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "first", "license: cc-by-nc-4.0")
    write(tmp_path / "second", run={"parents": [{"model": "first", "license": None}]})  # of an older version
    (tmp_path / "second" / "checkpoint-20").mkdir()
    for name in ("second", "second/checkpoint-20"):
        found = resolve_model_lineage(name)
        assert (found["hub_id"], found["revision"], found["license"]) == (None, None, None)
        assert [(one["model"], one["license"]) for one in found["ancestors"]] == [("first", "cc-by-nc-4.0")]


@pytest.mark.parametrize(
    ("license", "known"),
    [
        ("mit", "mit"),
        ("[mit]", "mit"),
        ("[mit, cc-by-nc-sa-4.0]", "cc-by-nc-sa-4.0"),
        ("[mit, cc-by-4.0]", None),
        ("unknown", None),
        ("other\nlicense_name: team-noncommercial", "team-noncommercial"),
        ("[mit", None),
    ],
)
def test_data_set_license_is_read_from_its_card(hub: LocalHub, license: str, known: str | None) -> None:
    write(hub.dataset("org/videos"), f"license: {license}")
    assert resolve_dataset_lineage("org/videos") == {
        "hub_id": "org/videos",
        "revision": commit("dataset", "org/videos"),
        "license": known,
    }


def test_local_data_has_no_hub_id(tmp_path: Path) -> None:
    nothing = {"hub_id": None, "revision": None, "license": None}
    assert resolve_dataset_lineage(str(tmp_path)) == resolve_dataset_lineage("path/*.mp4") == nothing
    write(tmp_path, "license: cc-by-4.0")
    assert resolve_dataset_lineage(str(tmp_path)) == {**nothing, "license": "cc-by-4.0"}


def test_failing_hub_is_noted_and_does_not_raise(hub: LocalHub) -> None:
    write(hub.dataset("org/videos"), "license: mit")
    hub.fail("resolve", status=AT_ONCE, times=None)
    found = resolve_dataset_lineage("org/videos", commit="b" * 40)
    assert (found["revision"], found["license"]) == ("b" * 40, None)
    assert found["unknown"].startswith("the Hub did not say everything about org/videos (")
    assert "org/model" in resolve_model_lineage("org/model")["unknown"]
    assert "unknown" in resolve_dataset_lineage("org/not-there")


def test_cache_is_read_during_outage(hub: LocalHub) -> None:
    write(hub.dataset("org/videos"), "license: cc-by-nc-4.0")
    before = resolve_dataset_lineage("org/videos")
    with hub.outage():
        assert resolve_dataset_lineage("org/videos") == before

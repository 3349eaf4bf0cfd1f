"""Test `model_cards/render.py`: the cards on disk are current, and each number has one source and one value."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml

from hf_videomae import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEVideoProcessor,
)
from hf_videomae.cards import CardError
from hf_videomae.cards.card_check import check_card
from hf_videomae.cards.paper import PAPER_RESULTS
from hf_videomae.data.motion import MotionSource
from model_cards.render import (
    INDEX_FILE,
    list_fact_files,
    load_known_issues,
    main,
    read_checkpoint_facts,
    render_all_cards,
    render_checkpoint_card,
)
from tests.helpers.snippets import run_snippets

ROOT = Path(__file__).resolve().parents[2]
CARDS = ROOT / "model_cards"
FILES = list_fact_files(CARDS)
SMALL = "videomae-small-finetuned-kinetics"


def test_cards_on_disk_match_their_facts() -> None:
    """Run `make cards` if this fails."""
    texts = render_all_cards(CARDS)
    assert {path.name for path in texts} == {path.name for path in CARDS.glob("*.md")}
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not what its YAML gives: run make cards"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_card_header_passes_check(path: Path) -> None:
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert check_card(card) == []
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-4.0"
    assert "no commercial use" in card and ("Not measured by us" in card or "## Published results" not in card)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recipes_of_training_stages_exist(path: Path) -> None:
    for step in read_checkpoint_facts(path).training:
        assert step.recipe is None or (ROOT / "examples" / "recipes" / f"{step.recipe}.yaml").is_file()


def test_facts_and_paper_results_agree() -> None:
    """Compare the facts with the results that cards of runs are compared with."""
    seen = set()
    for facts in map(read_checkpoint_facts, FILES):
        recipe = facts.training[-1].recipe
        if recipe in PAPER_RESULTS:
            last = PAPER_RESULTS[recipe]
            own = [(result.metric, result.value, result.views) for result in facts.results if not result.after]
            assert own[:2] == [("top-1", last.top1, last.views), ("top-5", last.top5, last.views)]
            seen.add(recipe)
    # No weights were published of these two.
    assert PAPER_RESULTS.keys() - seen == {"v1-ssv2-large-finetune", "v1-hmdb51-base-finetune"}


@pytest.mark.parametrize("name", PAPER_RESULTS)
def test_recipe_about_block_agrees_with_paper_results(name: str) -> None:
    about = yaml.safe_load((ROOT / "examples" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))["about"]
    published = PAPER_RESULTS[name]
    found = re.match(r"([\d.]+) top-1(?: / ([\d.]+) top-5)?.*?(\d+x\d+) views", about["reaches"], flags=re.DOTALL)
    assert found is not None
    assert (float(found[1]), float(found[2]) if found[2] else None, found[3]) == (
        published.top1,
        published.top5,
        published.views,
    )


COUNTED = [path for path in FILES if "source: counted" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", COUNTED, ids=lambda path: path.stem)
def test_counted_parameters_match_the_model(path: Path) -> None:
    facts = read_checkpoint_facts(path)
    counted = [number.value for number in facts.numbers if number.source == "counted"]
    kind = VideoMAEForVideoClassification if facts.classifier else VideoMAEForPreTraining
    task = "classification" if facts.classifier else "pretraining"
    fields: dict[str, Any] = {"num_labels": 400} if facts.classifier else {}
    with torch.device("meta"):
        model = kind(VideoMAEConfig.from_preset(facts.preset, task=task, **fields))
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    assert [f"{millions:.4g}"] == [f"{value:.4g}" for value in counted]


@pytest.fixture
def facts() -> dict[str, Any]:
    return yaml.safe_load((CARDS / f"{SMALL}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda facts: facts.update(color="red"), "unknown key 'color'; CheckpointFacts has name"),
        (lambda facts: facts["results"][0].update(metrik=1), "unknown key 'metrik'"),
        (lambda facts: facts["results"][0].pop("source"), r"results\[0\].value is 79.0 without a source"),
        (lambda facts: facts["numbers"][0].update(source="memory"), "the source 'memory', which is not among"),
        (lambda facts: facts["heads"].pop("source"), "heads.value is 6 without a source"),
        (lambda facts: facts.pop("license"), "lacks license"),
        (lambda facts: facts.update(name="other"), "it must be the file's"),
        (lambda facts: facts.update(preset="enormous"), "no preset enormous"),
        (lambda facts: facts.update(problems=["none"]), "no problem 'none'"),
        (lambda facts: facts.update(sampling="sparse"), "give dense or uniform"),
        (lambda facts: facts.pop("hub_id"), "give hub_id, file, or both"),
        (lambda facts: facts.update(training=["a"]), "mapping of data, source"),
    ],
)
def test_invalid_facts_raise(
    facts: dict[str, Any], spoil: Callable[[dict[str, Any]], object], words: str, tmp_path: Path
) -> None:
    spoil(facts)
    path = tmp_path / f"{SMALL}.yaml"
    path.write_text(yaml.safe_dump(facts))
    with pytest.raises(CardError, match=words):
        read_checkpoint_facts(path)


def test_main_renders_a_folder(facts: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2 and "holds no .yaml file" in capsys.readouterr().err
    (tmp_path / f"{SMALL}.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / f"{SMALL}.md").read_text() == (CARDS / f"{SMALL}.md").read_text()
    assert SMALL in (tmp_path / INDEX_FILE).read_text()


def test_every_known_issue_is_used() -> None:
    assert {name for path in FILES for name in read_checkpoint_facts(path).problems} == load_known_issues().keys()


def save(folder: Path, *, classifier: bool, **fields: Any) -> Path:
    """Save a tiny model of 16 frames with everything that a card's code needs."""
    kind, task = (VideoMAEForPreTraining, "pretraining")
    if classifier:
        kind, task = (VideoMAEForVideoClassification, "classification")
        fields |= {"head_init_scale": 1.0, "num_labels": 5}
    model = kind(VideoMAEConfig.from_preset("tiny", task=task, num_frames=16, **fields)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    model.save_pretrained(folder)
    VideoMAEVideoProcessor.from_config(model.config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    ["videomae-base", "videomae-base-finetuned-ssv2", "videomaev2-hub-base", "videomaev2-small-distilled-k710"],
)
def test_published_card_code_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = read_checkpoint_facts(CARDS / f"{name}.yaml")
    model = save(tmp_path / "model", classifier=facts.classifier)
    (tmp_path / "clip.mp4").write_bytes(MotionSource(split="test")[0].video)
    card, model_id = render_checkpoint_card(facts), (facts.hub_id if facts.file is None else facts.name)
    assert model_id is not None
    found = run_snippets(card, model_id=model_id, model=model, folder=tmp_path, monkeypatch=monkeypatch)
    assert len(found) == (3 if name == "videomae-base" else 2)


def test_small_model_card_code_fixes_number_of_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load a model with a wrong number of heads, which answers differently, and with the card's code."""
    folder = save(tmp_path / "model", classifier=True, hidden_size=192, num_attention_heads=6, intermediate_size=64)
    right = VideoMAEForVideoClassification.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 16}))
    (tmp_path / "clip.mp4").write_bytes(MotionSource(split="test")[0].video)
    card = (CARDS / f"{SMALL}.md").read_text(encoding="utf-8")
    stock, ours = run_snippets(
        card, model_id=f"MCG-NJU/{SMALL}", model=folder, folder=tmp_path, monkeypatch=monkeypatch
    )
    clip = torch.randn(1, 16, 3, 64, 64)
    kinds = (VideoMAEForVideoClassification, transformers.VideoMAEForVideoClassification)
    with torch.no_grad():
        wanted = right(clip).logits
        for kind, fixed in zip(kinds, (ours["model"], stock["model"]), strict=True):
            assert not torch.allclose(kind.from_pretrained(folder)(clip).logits, wanted, atol=1e-3)
            torch.testing.assert_close(fixed(clip).logits, wanted, atol=1e-4, rtol=1e-4)

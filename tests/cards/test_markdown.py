"""Test the text of cards, and the checksum that tells whether a card was edited."""

from pathlib import Path

import pytest

from hf_videomae.cards import CardError, is_unedited, section, table, with_checksum, write_readme
from hf_videomae.cards.header import license_header_fields, normalize_license
from hf_videomae.cards.markdown import join_card, without_checksum


def test_empty_sections_and_tables_are_left_out() -> None:
    assert section("A", None, "") is None and table(("a",), []) is None
    assert join_card("a: 1\n", ["# T", None, section("B", "text", None)]) == "---\na: 1\n---\n\n# T\n\n## B\n\ntext\n"
    assert table(("a", "b"), [("x|y", "1\n2")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |"


def test_is_unedited_detects_any_edit() -> None:
    card = with_checksum("# T\n")
    assert is_unedited(card) and without_checksum(card) == "# T\n" and with_checksum(without_checksum(card)) == card
    for edited in (card.replace("T", "S"), card + "more\n", "# T\n", card.replace("# T", "# T ")):
        assert not is_unedited(edited)


def test_write_readme_keeps_edited_file(tmp_path: Path) -> None:
    path = write_readme(tmp_path, with_checksum("# One\n"))
    write_readme(tmp_path, with_checksum("# Two\n"))
    path.write_text("# Mine\n")
    with pytest.raises(CardError, match="--overwrite replaces it"):
        write_readme(tmp_path, with_checksum("# Three\n"))
    assert path.read_text() == "# Mine\n"
    write_readme(tmp_path, with_checksum("# Three\n"), overwrite=True)
    assert is_unedited(path.read_text())


def test_licenses_are_normalized_to_hub_spelling() -> None:
    assert normalize_license("CC-BY-4.0") == "cc-by-4.0"
    with pytest.raises(ValueError, match="'cc-by-4' is not a license .*; did you mean cc-by-4.0"):
        normalize_license("cc-by-4")
    assert license_header_fields("MIT") == {"license": "mit"} and license_header_fields(None) == {}
    assert license_header_fields("team-license") == {"license": "other", "license_name": "team-license"}

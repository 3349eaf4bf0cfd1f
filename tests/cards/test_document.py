"""The text of cards, and the mark by which an edited one is known."""

from pathlib import Path

import pytest

from hf_videomae.cards import CardError, is_untouched, section, signed, table, write_card_file
from hf_videomae.cards.document import document, unsigned
from hf_videomae.cards.header import check_licence, licence_fields


def test_what_is_empty_is_left_out() -> None:
    assert section("A", None, "") is None and table(("a",), []) is None
    assert document("a: 1\n", ["# T", None, section("B", "text", None)]) == "---\na: 1\n---\n\n# T\n\n## B\n\ntext\n"
    assert table(("a", "b"), [("x|y", "1\n2")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |"


def test_any_edit_shows() -> None:
    card = signed("# T\n")
    assert is_untouched(card) and unsigned(card) == "# T\n" and signed(unsigned(card)) == card
    for edited in (card.replace("T", "S"), card + "more\n", "# T\n", card.replace("# T", "# T ")):
        assert not is_untouched(edited)


def test_nothing_of_a_person_is_written_over(tmp_path: Path) -> None:
    path = write_card_file(tmp_path, signed("# One\n"))
    write_card_file(tmp_path, signed("# Two\n"))
    path.write_text("# Mine\n")
    with pytest.raises(CardError, match="--overwrite replaces it"):
        write_card_file(tmp_path, signed("# Three\n"))
    assert path.read_text() == "# Mine\n"
    write_card_file(tmp_path, signed("# Three\n"), overwrite=True)
    assert is_untouched(path.read_text())


def test_licences_are_spelt_as_the_hub_does() -> None:
    assert check_licence("CC-BY-4.0") == "cc-by-4.0"
    with pytest.raises(ValueError, match="'cc-by-4' is no licence that the Hub knows; did you mean cc-by-4.0"):
        check_licence("cc-by-4")
    assert licence_fields("MIT") == {"license": "mit"} and licence_fields(None) == {}
    assert licence_fields("team-licence") == {"license": "other", "license_name": "team-licence"}

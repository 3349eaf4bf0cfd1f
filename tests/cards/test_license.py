"""Test that the license of a model follows from what it was made of."""

import pytest

from hf_videomae.cards import Ancestor, LicenseError, inherit_license
from hf_videomae.cards.license import known_checkpoint_license

PUBLISHED = Ancestor(name="MCG-NJU/videomae-base", hub_id="MCG-NJU/videomae-base", license="cc-by-nc-4.0")
FREE = Ancestor(name="org/free", hub_id="org/free", license="apache-2.0")
UNKNOWN = Ancestor(name="mine")
DATA = Ancestor(name="org/videos", hub_id="org/videos", license="cc-by-4.0", is_data=True)
DATA_NC = Ancestor(name="org/videos", hub_id="org/videos", license="cc-by-nc-sa-4.0", is_data=True)


@pytest.mark.parametrize(
    ("lineage", "requested", "name"),
    [
        ([PUBLISHED, DATA], None, "cc-by-nc-4.0"),
        ([UNKNOWN, PUBLISHED], None, "cc-by-nc-4.0"),  # a fine-tune of a fine-tune
        ([PUBLISHED], "CC-BY-NC-4.0", "cc-by-nc-4.0"),
        ([FREE, DATA_NC], None, "cc-by-nc-sa-4.0"),
        ([FREE, DATA], None, "apache-2.0"),
        ([FREE, DATA], "mit", "mit"),
        ([DATA], None, "cc-by-4.0"),
        ([UNKNOWN, DATA], None, None),
        ([UNKNOWN], "mit", "mit"),
        ([], None, None),
        ([], "apache-2.0", "apache-2.0"),
    ],
)
def test_inherited_license(lineage: list[Ancestor], requested: str | None, name: str | None) -> None:
    assert inherit_license(lineage, requested=requested).name == name


@pytest.mark.parametrize("lineage", [[PUBLISHED], [FREE, DATA_NC]])
def test_non_commercial_license_cannot_be_replaced(lineage: list[Ancestor]) -> None:
    with pytest.raises(LicenseError, match="apache-2.0.*cc-by-nc.*leave the license out"):
        inherit_license(lineage, requested="apache-2.0")


def test_unknown_license_is_stated() -> None:
    assert "checkpoint `mine` is not known" in inherit_license([UNKNOWN, DATA]).reason
    assert inherit_license([]).reason == "No license is stated."
    assert "no commercial use" in inherit_license([PUBLISHED]).reason


def test_known_checkpoints_are_non_commercial() -> None:
    assert known_checkpoint_license("MCG-NJU/videomae-base-finetuned-kinetics") == "cc-by-nc-4.0"
    assert known_checkpoint_license("OpenGVLab/VideoMAEv2-Base") == "cc-by-nc-4.0"
    assert known_checkpoint_license("org/videomae-base") is None

"""The licence of a model follows from what it was made of."""

import pytest

from hf_videomae.cards import LicenceError, Origin, inherited_licence
from hf_videomae.cards.licences import known_licence

PUBLISHED = Origin(name="MCG-NJU/videomae-base", hub_id="MCG-NJU/videomae-base", licence="cc-by-nc-4.0")
FREE = Origin(name="org/free", hub_id="org/free", licence="apache-2.0")
UNKNOWN = Origin(name="mine")
DATA = Origin(name="org/videos", hub_id="org/videos", licence="cc-by-4.0", is_data=True)
DATA_NC = Origin(name="org/videos", hub_id="org/videos", licence="cc-by-nc-sa-4.0", is_data=True)


@pytest.mark.parametrize(
    ("origins", "stated", "name"),
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
def test_inherited(origins: list[Origin], stated: str | None, name: str | None) -> None:
    assert inherited_licence(origins, stated=stated).name == name


@pytest.mark.parametrize("origins", [[PUBLISHED], [FREE, DATA_NC]])
def test_non_commercial_stays(origins: list[Origin]) -> None:
    with pytest.raises(LicenceError, match="apache-2.0.*cc-by-nc.*leave the licence out"):
        inherited_licence(origins, stated="apache-2.0")


def test_what_is_not_known_is_said() -> None:
    assert "checkpoint `mine` is not known" in inherited_licence([UNKNOWN, DATA]).reason
    assert inherited_licence([]).reason == "No licence is stated."
    assert "no commercial use" in inherited_licence([PUBLISHED]).reason


def test_published_weights() -> None:
    assert known_licence("MCG-NJU/videomae-base-finetuned-kinetics") == "cc-by-nc-4.0"
    assert known_licence("OpenGVLab/VideoMAEv2-Base") == "cc-by-nc-4.0"
    assert known_licence("org/videomae-base") is None

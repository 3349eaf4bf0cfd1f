"""Make the video that the tests of reading share."""

import pytest

from tests.helpers.numbered import numbered_video


@pytest.fixture(scope="package")
def numbered() -> bytes:
    return numbered_video()

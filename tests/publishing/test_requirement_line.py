"""Test that published requirements hold no credentials and no local paths."""

import json
from pathlib import Path

import pytest

from hf_videomae.publishing.requirement_line import check_requirement_line, has_credentials
from hf_videomae.serving.endpoint.handler_files import write_endpoint
from hf_videomae.serving.space import SpaceError, render_space_requirements

pytestmark = pytest.mark.fault
SECRET = "hf_" + "Ab1" * 12


@pytest.mark.parametrize(
    "package",
    [
        f"git+https://{SECRET}@github.com/org/repo@main",
        f"git+https://user:{SECRET}@github.com/org/repo",
        "git+https://oauth2:short@gitlab.com/org/repo",
        "git+ssh://git:short@github.com/org/repo",
        f"hf-videomae @ https://host/a.whl?token={SECRET}",
        "hf-videomae @ https://b.s3.amazonaws.com/a.whl?X-Amz-Signature=0123",
        "hf-videomae --extra-index-url https://user:short@host/simple",
        f"hf-videomae  # {SECRET}",
        f"hf-videomae\nother @ https://{SECRET}@host/a.whl",
    ],
)
def test_package_with_credentials_is_refused_without_showing_them(package: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["VideoMAEForVideoClassification"]}))
    with pytest.raises(ValueError, match="the package .*requirements") as caught:
        write_endpoint(tmp_path, package=package)
    with pytest.raises(SpaceError, match="the package .*requirements"):
        render_space_requirements(package)
    assert SECRET not in str(caught.value) and "short" not in str(caught.value)
    assert not (tmp_path / "requirements.txt").exists()


@pytest.mark.parametrize(
    "package",
    [
        "hf-videomae[av]==1.0",
        "git+https://github.com/org/repo@main#egg=hf-videomae",
        "git+ssh://git@github.com/org/repo.git@v1",
        "git+https://${GITHUB_TOKEN}@github.com/org/repo",
        "git+https://${NAME}:${WORD}@host/repo",
        "hf-videomae @ https://host/a.whl",
    ],
)
def test_package_without_credentials_is_unchanged(package: str) -> None:
    assert check_requirement_line(f" {package}\n".strip("\n")) == package and not has_credentials(package)
    assert package in render_space_requirements(package).splitlines()


@pytest.mark.parametrize(
    "package",
    [
        "/home/anna/x.whl",
        "file:///home/anna/x",
        "hf-videomae @ FILE:///home/anna/x",
        "-e ../anna",
        "./anna",
        "~/anna/x",
    ],
)
def test_local_path_is_refused(package: str) -> None:
    with pytest.raises(ValueError, match="path of this machine") as caught:
        check_requirement_line(package)
    assert "home" not in str(caught.value)

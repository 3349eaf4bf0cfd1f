"""Test each problem that users meet, as the facts of a machine that has it: the finding and the line that fixes it."""

import tomllib
from pathlib import Path

import pytest

from hf_videomae.doctor import DiskSpace, Environment, Finding, diagnose, is_healthy, to_dict, to_table
from hf_videomae.doctor.checks import TESTED_VERSIONS
from hf_videomae.doctor.environment import declared_minimum
from tests.helpers.machines import GIB, HEALTHY, machine

ROOT = Path(__file__).resolve().parents[2]
NO_FFMPEG = "no FFmpeg libraries are found; torchcodec tried versions 4 to 8"
NO_AV = {"packages": {"av": None}, "pyav": {"missing": "No module named 'av'", "decode_error": None}}


def torchcodec(missing: str | None = None, decode_error: str | None = None) -> dict[str, str | None]:
    return {"missing": missing, "decode_error": decode_error, "ffmpeg": "6"}


def the(about: str, facts: Environment) -> Finding:
    (found,) = [finding for finding in diagnose(facts) if finding.about == about]
    return found


def test_healthy_machine_has_no_fixes() -> None:
    findings = diagnose(HEALTHY)
    assert is_healthy(findings) and {finding.status for finding in findings} == {"ok"}
    assert not any(finding.fix for finding in findings)
    assert to_table(findings).splitlines()[-1] == "everything that is needed works"


# changes to the healthy machine; what; status; words of what is found; words of the fix
PROBLEMS = [
    ({"packages": {"transformers": "5.9.0"}}, "packages", "broken", "transformers 5.9.0", "'transformers>=5.19'"),
    ({"packages": {"numpy": None}}, "packages", "broken", "numpy is missing", "'numpy>=2.0'"),
    ({"packages": {"accelerate": None}}, "packages", "warning", "accelerate", "hf-videomae[train]"),
    ({"packages": {"torch": None}, "torch": {"error": "No module named 'torch'"}}, "torch", "broken", "not installed",
     "pip install torch==2.13.0"),
    ({"torch": {"error": "libcudart.so.13: cannot open shared object file"}}, "torch", "broken", "libcudart.so.13",
     "--force-reinstall torch=="),
    ({"torch": {"crash": "the process was killed by SIGILL"}}, "torch", "broken", "SIGILL", "--force-reinstall"),
    ({"torch": {"error": None, "version": "2.7.1+cu126", "cuda": "12.6"}}, "torch", "broken", "2.11 or later",
     "--upgrade torch==2.13.0 torchcodec==0.13.0"),
    # GPU and driver
    ({"gpu": {"names": [], "error": "The NVIDIA driver on your system is too old (found version 12020).",
              "driver_cuda": "12.2"}, "driver": "535.104.05"}, "gpu", "broken", "up to CUDA 12.2", "580 or later"),
    ({"gpu": {"names": [], "error": "CUDA unknown error", "driver_cuda": "13.0"}}, "gpu", "broken",
     "CUDA unknown error", "nvidia-smi"),
    ({"gpu": {"crash": "no answer within 180 s"}}, "gpu", "broken", "no answer", "nvidia-smi"),
    ({"gpu": {"names": [], "error": None, "driver_cuda": "13.0"}, "visible_gpus": ""}, "gpu", "warning", "hidden",
     "unset CUDA_VISIBLE_DEVICES"),
    ({"torch": {"error": None, "version": "2.13.0+cpu", "cuda": None}, "gpu": {"names": [], "error": None,
      "driver_cuda": "13.0"}}, "gpu", "warning", "built without CUDA", "torch torchcodec"),
    # decoders
    ({"torchcodec": torchcodec(NO_FFMPEG), **NO_AV}, "torchcodec", "broken", NO_FFMPEG, "apt-get install ffmpeg"),
    ({"torchcodec": torchcodec(NO_FFMPEG), "installers": ("conda", "apt-get"), **NO_AV}, "torchcodec", "broken",
     NO_FFMPEG, "conda install -c conda-forge 'ffmpeg<9'"),
    ({"torchcodec": torchcodec(NO_FFMPEG), "installers": (), **NO_AV}, "torchcodec", "broken", NO_FFMPEG,
     "pip install av"),
    ({"torchcodec": torchcodec(NO_FFMPEG)}, "torchcodec", "warning", NO_FFMPEG, "apt-get install ffmpeg"),
    ({"torchcodec": torchcodec("libavdevice.so.60: cannot open shared object file (with FFmpeg 6)"), **NO_AV},
     "torchcodec", "broken", "libavdevice.so.60", "apt-get install ffmpeg"),
    ({"torchcodec": torchcodec("libnppicc.so.12: cannot open shared object file (with FFmpeg 6)"), **NO_AV},
     "torchcodec", "broken", "libnppicc.so.12", "torchcodec==0.13.0 --index-url https://download.pytorch.org/whl/cpu"),
    ({"torchcodec": torchcodec("libtorchcodec_core6.so: undefined symbol: _ZN3c10 (with FFmpeg 6)"), **NO_AV},
     "torchcodec", "broken", "undefined symbol", "--force-reinstall --no-deps torchcodec==0.13.0"),
    ({"torchcodec": torchcodec("libstdc++.so.6: version `GLIBCXX_3.4.32' not found"), **NO_AV}, "torchcodec",
     "broken", "GLIBCXX", "libstdcxx-ng"),
    ({"torchcodec": torchcodec("libpython3.12.so.1.0: cannot open shared object file"), **NO_AV}, "torchcodec",
     "broken", "libpython3.12", "pip install av"),
    ({"torchcodec": torchcodec("/opt/old/lib/libavutil.so.58: file too short"), "library_path": ("/opt/old/lib",)},
     "torchcodec", "warning", "file too short", "unset LD_LIBRARY_PATH"),
    ({"torchcodec": {"crash": "the process was killed by SIGSEGV"}, **NO_AV}, "torchcodec", "broken", "SIGSEGV",
     "--force-reinstall --no-deps torchcodec"),
    ({"torchcodec": torchcodec("No module named 'torchcodec'"), "packages": {"torchcodec": None, "av": None},
      "pyav": NO_AV["pyav"]}, "torchcodec", "broken", "No module", "pip install --no-deps torchcodec==0.13.0"),
    ({"torchcodec": torchcodec(decode_error="Could not find a decoder for h264"), **NO_AV}, "torchcodec", "broken",
     "does not decode the test clip", "install ffmpeg"),
    ({"packages": {"torchcodec": "0.11.1"}}, "torchcodec", "warning", "another torch than 2.13.0", "torchcodec==0.13"),
    (NO_AV, "pyav", "note", "second decoder", "pip install av"),
    ({"pyav": {"missing": "DLL load failed", "decode_error": None}}, "pyav", "warning", "DLL", "reinstall av"),
    # shared memory and disks
    ({"shared_memory": DiskSpace("/dev/shm", 64 * 2**20, 64 * 2**20), "in_container": True}, "shared memory", "broken",
     "64 MiB free of 64 MiB", "docker run --shm-size=8g"),
    ({"shared_memory": DiskSpace("/dev/shm", 64 * 2**20, 64 * 2**20)}, "shared memory", "broken", "bus error",
     "mount -o remount"),
    ({"shared_memory": DiskSpace("/dev/shm", 16 * GIB, 0)}, "shared memory", "broken", "full", "rm /dev/shm/torch_*"),
    ({"shared_memory": DiskSpace("/dev/shm", GIB, GIB)}, "shared memory", "warning", "1.0 GiB", "--num_workers 0"),
    ({"shared_memory": DiskSpace("/dev/shm", error="permission denied")}, "shared memory", "broken",
     "permission denied", "/dev/shm"),
    ({"output": DiskSpace("runs", 500 * GIB, 2**20)}, "output", "broken", "runs: 1 MiB free", "--output_dir"),
    ({"output": DiskSpace("runs", 500 * GIB, 5 * GIB)}, "output", "warning", "5.0 GiB free", "--output_dir"),
    ({"cache": DiskSpace("/ro/hub", 500 * GIB, 99 * GIB, "not writable")}, "cache", "broken", "not writable",
     "HF_HOME"),
    # the Hub
    ({"hub": {"error": "ConnectError: [Errno 111] Connection refused", "status": None, "user": None},
      "endpoint": "http://127.0.0.1:9"}, "hub", "broken", "Connection refused", "unset HF_ENDPOINT"),
    ({"hub": {"error": "ConnectError: Name or service not known", "status": None, "user": None}}, "hub", "broken",
     "Name or service not known", "export HF_HUB_OFFLINE=1"),
    ({"hub": {"crash": "no answer within 8 s"}}, "hub", "broken", "no answer within 8 s", "HF_HUB_OFFLINE"),
    ({"hub": {"error": None, "status": 404, "user": None}}, "hub", "broken", "HTTP 404", "HF_HUB_OFFLINE"),
    ({"hub": {"error": None, "status": 401, "user": None}, "token": "HF_TOKEN"}, "hub", "broken", "refuses the token",
     "unset HF_TOKEN"),
    ({"hub": {"error": None, "status": 401, "user": None}}, "hub", "broken", "refuses the token", "hf auth login"),
    ({"hub": {"error": None, "status": 503, "user": None}}, "hub", "warning", "HTTP 503", "try again"),
    ({"hub": {"error": None, "status": 401, "user": None}, "token": None}, "hub", "note", "no token", "hf auth login"),
    ({"hub": {}, "offline_variables": ("HF_HUB_OFFLINE",)}, "hub", "note", "HF_HUB_OFFLINE is set",
     "unset HF_HUB_OFFLINE"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "about", "status", "words", "fix"), PROBLEMS)
def test_each_problem_has_its_finding_and_fix(changes: dict, about: str, status: str, words: str, fix: str) -> None:
    facts = machine(**changes)
    finding = the(about, facts)
    assert (finding.status, words in finding.found) == (status, True), finding
    assert finding.fix is not None and fix in finding.fix
    for line in (finding.found, finding.fix):
        assert "\n" not in line and len(line) < 400
    assert is_healthy(diagnose(facts)) == (status != "broken")
    assert to_dict(facts, diagnose(facts))["healthy"] == (status != "broken")
    table = to_table(diagnose(facts))
    assert finding.found in table and f"-> {finding.fix}" in table
    assert (status == "broken") == (f"1 broken: {about}" in table)


def test_decoders_are_not_blamed_without_torch() -> None:
    facts = machine(torch={"error": "No module named 'torch'"}, torchcodec={"crash": "ended with ModuleNotFoundError"})
    findings = diagnose(facts)
    assert [finding.about for finding in findings if finding.status == "broken"] == ["torch"]
    assert the("decoders", facts).status == "note"


def test_machine_without_gpu_is_healthy() -> None:
    no_gpu = {"names": [], "error": "Found no NVIDIA driver on your system.", "driver_cuda": None}
    assert the("gpu", machine(gpu=no_gpu, driver=None)).status == "note"


def test_missing_dev_shm_is_no_problem() -> None:
    assert not [finding for finding in diagnose(machine(shared_memory=None)) if finding.about == "shared memory"]


def test_offline_flag_skips_the_hub() -> None:
    finding = the("hub", machine(network_asked=False, hub={}))
    assert finding.status == "note" and "--offline" in finding.found


def test_declared_minimum_is_read_from_the_metadata() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    for extra, lines in groups.items():
        for found in map(requirements.Requirement, lines):
            if found.name != "hf-videomae":
                assert f">={declared_minimum()[extra][found.name.replace('-', '_')]}" in str(found.specifier)
    assert {name: least for name, least in declared_minimum()[""].items()} == HEALTHY.minimum[""]


def test_tested_versions_match_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"{name}=={version}" in makefile for name, version in TESTED_VERSIONS.items())


@pytest.mark.fault
def test_transformers_below_the_declared_minimum_is_broken() -> None:
    finding = the("packages", machine(packages={"transformers": "5.18.0"}))
    assert finding.status == "broken" and "transformers 5.18.0" in finding.found
    assert finding.fix == "pip install 'transformers>=5.19'"


@pytest.mark.fault
def test_old_package_of_an_extra_is_a_warning() -> None:
    finding = the("packages", machine(packages={"peft": "0.17.0"}))
    assert finding.status == "warning" and "peft 0.17.0" in finding.found and "'peft>=0.18'" in str(finding.fix)


@pytest.mark.fault
def test_classes_that_cannot_be_imported_are_broken() -> None:
    answer = {"error": "cannot import name 'merge_with_config_defaults'", "name": "VideoMAEModel"}
    finding = the("imports", machine(imports=answer))
    assert finding.status == "broken" and "VideoMAEModel" in finding.found


@pytest.mark.fault
def test_torchvision_that_does_not_load_is_broken() -> None:
    answer = {"error": "operator torchvision::nms does not exist"}
    finding = the("torchvision", machine(packages={"torchvision": "0.20.0"}, torchvision=answer))
    assert finding.status == "broken" and "0.20.0 does not load with torch 2.13.0" in finding.found
    assert "torchvision==0.28.*" in str(finding.fix)

"""Turn facts into findings: what works, what does not, and for each problem the one line that fixes it. All pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .._dependencies import torchvision_remedy
from .environment import DISTRIBUTION, DiskSpace, Environment

Status = Literal["ok", "note", "warning", "broken"]

# The pair that the Makefile installs; a test holds the two together.
TESTED_VERSIONS = {"torch": "2.13.0", "torchcodec": "0.13.0"}

_TORCH, _TORCHCODEC = (f"{name}=={version}" for name, version in TESTED_VERSIONS.items())
_GIB = 2**30
# With less, loader workers die of a bus error in the first batches; Docker's default is 64 MiB.
_SHARED_MEMORY_REQUIRED, _SHARED_MEMORY_RECOMMENDED = _GIB // 4, 2 * _GIB
# A checkpoint of the base model with its optimizer is 1.1 GiB, its weights alone 0.4.
_DISK_REQUIRED, _DISK_RECOMMENDED = _GIB, 20 * _GIB
_CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
_MIN_DRIVER = {"12": "525", "13": "580"}  # by CUDA version, from NVIDIA's table of minor version compatibility
_CUDA_LIBRARY = re.compile(r"lib(cudart|nvrtc|npp\w*|nvcuvid|cuda|torch_cuda|c10_cuda)\b")
_ABI_MISMATCH = re.compile(r"undefined symbol|Symbol not found|lib(torch|c10)\w*\.(so|dylib)|register an operator")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        about: what was checked.
        status: `ok`; `note` (worth knowing); `warning` (it works, but not as it could); `broken`.
        found: the result, in one line.
        fix: the one line that fixes it.
    """

    about: str
    status: Status
    found: str
    fix: str | None = None


def diagnose(facts: Environment) -> list[Finding]:
    """Return every finding about a machine; what others depend on comes first."""
    return [finding for check in CHECKS for finding in check(facts)]


def is_healthy(findings: list[Finding]) -> bool:
    """Return whether nothing that is needed is broken."""
    return all(finding.status != "broken" for finding in findings)


def check_packages(facts: Environment) -> list[Finding]:
    """Check that what the package needs is installed, in the versions that its own metadata asks for."""
    if not facts.minimum:
        found = f"{DISTRIBUTION} is not installed but imported from its path, so its requirements are not known"
        return [Finding("packages", "note", found, "pip install -e '.[train]'  (in the clone)")]
    needed = {
        name: min_version for name, min_version in facts.minimum.get("", {}).items() if name not in TESTED_VERSIONS
    }
    old = [name for name, min_version in needed.items() if not _is_at_least(facts.packages.get(name), min_version)]
    if old:
        found = _with_versions(facts, old)
        return [Finding("packages", "broken", f"missing or too old: {found}", _install_command(needed, old))]
    return _check_extras(facts)


def _check_extras(facts: Environment) -> list[Finding]:
    """Check the extras: training must be complete, and what is installed of the others must fit."""
    training = facts.minimum.get("train", {})
    missing = [name for name in training if facts.packages.get(name) is None]
    if missing:
        fix = "pip install 'hf-videomae[train]'"
        found = f"training needs packages that are not installed: {', '.join(missing)}"
        return [Finding("packages", "warning", found, fix)]
    wanted = {
        name: min_version
        for extra in facts.minimum.values()
        for name, min_version in extra.items()
        if name not in TESTED_VERSIONS
    }
    old = [
        name
        for name, min_version in wanted.items()
        if facts.packages.get(name) is not None and not _is_at_least(facts.packages[name], min_version)
    ]
    if old:
        found = f"too old: {_with_versions(facts, old)}"
        return [Finding("packages", "warning", found, _install_command(wanted, old))]
    shown = ("transformers", "huggingface_hub", "accelerate", "datasets")
    return [Finding("packages", "ok", ", ".join(f"{name} {facts.packages.get(name)}" for name in shown))]


def _with_versions(facts: Environment, names: list[str]) -> str:
    return ", ".join(f"{name} {facts.packages.get(name) or 'is missing'}" for name in names)


def _install_command(minimum: dict[str, str], names: list[str]) -> str:
    return "pip install " + " ".join(f"'{name}>={minimum[name]}'" for name in names)


def check_torchvision(facts: Environment) -> list[Finding]:
    """Check that torchvision, if installed, fits torch: transformers imports it."""
    problem = facts.torchvision.get("error") or facts.torchvision.get("crash")
    if facts.packages.get("torchvision") is None or not _is_torch_importable(facts):
        return []
    version = facts.packages["torchvision"]
    if problem:
        found = f"{version} does not load with torch {facts.torch['version']}: {_first_line(problem)}"
        return [Finding("torchvision", "broken", found, torchvision_remedy(facts.torch["version"]))]
    return [Finding("torchvision", "ok", f"{version}, loads with torch")]


def check_imports(facts: Environment) -> list[Finding]:
    """Check that the public classes and functions can be imported."""
    problem = facts.imports.get("error") or facts.imports.get("crash")
    if not problem or not _is_torch_importable(facts) or facts.torchvision.get("error"):
        return []
    name = facts.imports.get("name") or "the package"
    fix = "pip install --upgrade --force-reinstall --no-deps transformers huggingface_hub hf-videomae"
    return [Finding("imports", "broken", f"{name} cannot be imported: {_first_line(problem)}", fix)]


def check_torch(facts: Environment) -> list[Finding]:
    """Check that torch can be imported, and is new enough."""
    install = f"pip install {_TORCH} {_TORCHCODEC} --index-url {_CPU_WHEELS}"
    problem = facts.torch.get("error") or facts.torch.get("crash")
    if facts.packages.get("torch") is None and problem:
        return [Finding("torch", "broken", "it is not installed", f"{install}  (for a GPU: pytorch.org/get-started)")]
    if problem:
        fix = install.replace("install", "install --force-reinstall", 1)
        return [Finding("torch", "broken", f"it cannot be imported: {_first_line(problem)}", fix)]
    version = facts.torch["version"]
    min_version = facts.minimum.get("", {}).get("torch", "0")
    if not _is_at_least(version, min_version):
        fix = f"pip install --upgrade {_TORCH} {_TORCHCODEC}"
        return [Finding("torch", "broken", f"{version}, but {min_version} or later is needed", fix)]
    built = f"for CUDA {facts.torch['cuda']}" if facts.torch.get("cuda") else "no CUDA"
    return [Finding("torch", "ok", f"{version}, {built}")]


def check_gpu(facts: Environment) -> list[Finding]:
    """Check that torch, the driver and the GPU fit each other. A machine without a GPU is fine, and slow."""
    if not _is_torch_importable(facts):
        return []
    names, built_for = facts.gpu.get("names") or [], facts.torch.get("cuda")
    driver = f"driver {facts.driver}" if facts.driver else "no NVIDIA driver"
    if names:
        return [Finding("gpu", "ok", f"{len(names)} x {names[0]}, {driver}")]
    if facts.driver is None and facts.gpu.get("driver_cuda") is None:
        return [Finding("gpu", "note", f"none: everything runs on the CPU ({driver})")]
    if built_for is None:
        fix = "pip install --force-reinstall torch torchcodec, from the index that pytorch.org/get-started names"
        return [Finding("gpu", "warning", f"there is one ({driver}), but this torch was built without CUDA", fix)]
    if facts.visible_gpus is not None and not facts.visible_gpus.strip(" -1"):
        found = f"hidden from this process by CUDA_VISIBLE_DEVICES={facts.visible_gpus!r}"
        return [Finding("gpu", "warning", found, "unset CUDA_VISIBLE_DEVICES")]
    return [_driver_problem(facts, str(built_for), driver)]


def _driver_problem(facts: Environment, built_for: str, driver: str) -> Finding:
    needed, supported = built_for.partition(".")[0], str(facts.gpu.get("driver_cuda") or "")
    if supported and int(supported.partition(".")[0]) < int(needed):
        release = _MIN_DRIVER.get(needed)
        found = f"{driver} supports up to CUDA {supported}, but torch was built for CUDA {built_for}"
        wanted = f"{release} or later" if release else f"one for CUDA {needed}"
        fix = f"update the NVIDIA driver to {wanted}, or install a torch for CUDA {supported.partition('.')[0]}"
        return Finding("gpu", "broken", found, f"{fix} (pytorch.org/get-started)")
    reason = _first_line(facts.gpu.get("error") or facts.gpu.get("crash") or "it does not say why")
    fix = "nvidia-smi must list the GPU: restart the machine, or the container with --gpus all"
    return Finding("gpu", "broken", f"torch cannot use it ({driver}): {reason}", fix)


def check_decoders(facts: Environment) -> list[Finding]:
    """Check which decoders work. One is enough; torchcodec is the faster one."""
    if not _is_torch_importable(facts):
        return [Finding("decoders", "note", "not tried, as they need torch"), _ffmpeg_program(facts)]
    torchcodec, pyav = _decoder_problem(facts.torchcodec), _decoder_problem(facts.pyav)
    broken: Status = "broken" if torchcodec and pyav else "warning"
    return [_check_torchcodec(facts, torchcodec, broken), _check_pyav(facts, pyav, broken), _ffmpeg_program(facts)]


def _is_torch_importable(facts: Environment) -> bool:
    return not (facts.torch.get("error") or facts.torch.get("crash"))


def _decoder_problem(answer: dict) -> str | None:
    if answer.get("crash"):
        return f"it crashes as it loads: {_first_line(answer['crash'])}"
    if answer.get("missing"):
        return f"it cannot be loaded: {_first_line(answer['missing'])}"
    if answer.get("decode_error"):
        return f"it does not decode the test clip: {_first_line(answer['decode_error'])}"
    return None


def _check_torchcodec(facts: Environment, problem: str | None, broken: Status) -> Finding:
    """Check that torchcodec works and was built for this torch (the table in its README)."""
    if problem is not None:
        return Finding("torchcodec", broken, problem, _torchcodec_fix(facts, problem))
    torch, torchcodec = facts.torch.get("version") or "", facts.packages.get("torchcodec") or ""
    found = f"{torchcodec} with FFmpeg {facts.torchcodec.get('ffmpeg')}, decodes the test clip"
    if _parse_version(torchcodec) < (0, 12) and _parse_version(torch)[:2] != (2, 11):
        found = f"{found}, but was built for another torch than {torch}"
        return Finding("torchcodec", "warning", found, _reinstall_torchcodec())
    return Finding("torchcodec", "ok", found)


def _check_pyav(facts: Environment, problem: str | None, broken: Status) -> Finding:
    if problem is not None and facts.packages.get("av") is None:
        found = "not installed: the second decoder, for files on which torchcodec gives up"
        return Finding("pyav", "note", found, "pip install av")
    if problem is not None:
        return Finding("pyav", broken, problem, "pip install --force-reinstall av")
    found = f"{facts.packages.get('av')} with FFmpeg {facts.pyav.get('ffmpeg')}, decodes the test clip"
    return Finding("pyav", "ok", found)


def _torchcodec_fix(facts: Environment, problem: str) -> str:
    """Return the remedy for what its loader says; the one about FFmpeg only if FFmpeg is missing."""
    if facts.packages.get("torchcodec") is None:
        return _reinstall_torchcodec().replace(" --force-reinstall", "")
    if any(folder and folder in problem for folder in facts.library_path):
        return "unset LD_LIBRARY_PATH  (the libraries that it puts first do not match)"
    if _CUDA_LIBRARY.search(problem) or _ABI_MISMATCH.search(problem) or "crashes" in problem:
        return _reinstall_torchcodec()
    if "libpython" in problem:
        return "pip install av  (torchcodec needs a Python that was built with its shared library, as conda's is)"
    if "GLIBC" in problem:
        return "conda install -c conda-forge 'libstdcxx-ng>=13', or a newer system: its C++ library is too old"
    return _install_ffmpeg(facts)


def _reinstall_torchcodec() -> str:
    # The CPU build decodes just as well with a torch for CUDA: frames are decoded on the CPU here.
    return f"pip install --force-reinstall --no-deps {_TORCHCODEC} --index-url {_CPU_WHEELS}"


def _install_ffmpeg(facts: Environment) -> str:
    ways = {"conda": "conda install -c conda-forge 'ffmpeg<9'", "apt-get": "apt-get install ffmpeg"}
    ways["brew"] = "brew install ffmpeg"
    for name in facts.installers:
        return f"{ways[name]}  (or: pip install av, a decoder with its own FFmpeg)"
    return "pip install av  (a decoder with its own FFmpeg; or install FFmpeg 4 to 8 with shared libraries)"


def _ffmpeg_program(facts: Environment) -> Finding:
    found = facts.ffmpeg_program
    return Finding("ffmpeg", "ok" if found else "note", f"program {found}" if found else "no program; none is needed")


def check_shared_memory(facts: Environment) -> list[Finding]:
    """Check that loader workers have room to hand over their batches."""
    space = facts.shared_memory
    if space is None:
        return []
    sizes = f"{_format_bytes(space.free)} free of {_format_bytes(space.total)}"
    if space.error:
        return [Finding("shared memory", "broken", f"/dev/shm: {space.error}", _shared_memory_fix(facts))]
    if space.total < _SHARED_MEMORY_REQUIRED:
        found = f"{sizes}: loader workers die of a bus error"
        return [Finding("shared memory", "broken", found, _shared_memory_fix(facts))]
    if space.free < _SHARED_MEMORY_REQUIRED:
        fix = "rm /dev/shm/torch_*  (left by runs that were killed; when none is running)"
        return [Finding("shared memory", "broken", f"{sizes}: full", fix)]
    if space.free < _SHARED_MEMORY_RECOMMENDED:
        found = f"{sizes}: little for several workers with large clips"
        return [Finding("shared memory", "warning", found, _shared_memory_fix(facts))]
    return [Finding("shared memory", "ok", sizes)]


def _shared_memory_fix(facts: Environment) -> str:
    here = "mount -o remount,size=8g /dev/shm  (as root)"
    fix = "docker run --shm-size=8g ..." if facts.in_container else here
    return f"{fix}  (until then: --num_workers 0)"


def check_disk(facts: Environment) -> list[Finding]:
    """Check that runs and downloads can be written."""
    output_fix = "give another folder: --output_dir /path/with/space"
    cache = "export HF_HOME=/path/with/space"
    return [_disk_finding("output", facts.output, output_fix), _disk_finding("cache", facts.cache, cache)]


def _disk_finding(about: str, space: DiskSpace, fix: str) -> Finding:
    if space.error:
        return Finding(about, "broken", f"{space.path}: {space.error}", fix)
    found = f"{space.path}: {_format_bytes(space.free)} free of {_format_bytes(space.total)}"
    if space.free < _DISK_REQUIRED:
        return Finding(about, "broken", found, fix)
    return Finding(about, "warning", found, fix) if space.free < _DISK_RECOMMENDED else Finding(about, "ok", found)


def check_hub(facts: Environment) -> list[Finding]:
    """Check that the Hub answers, and knows the user. Skipped, and fine, if the user or environment says so."""
    token = f"a token in {facts.token}" if facts.token else "no token"
    if facts.offline_variables:
        names = ", ".join(facts.offline_variables)
        found = f"not asked, as {names} is set: only what is in the cache can be used; {token}"
        return [Finding("hub", "note", found, f"unset {names.replace(',', '')}")]
    if not facts.network_asked:
        return [Finding("hub", "note", f"not asked (--offline); {token}")]
    problem = facts.hub.get("error") or facts.hub.get("crash")
    if problem:
        return [_unreachable_finding(facts, _first_line(problem))]
    status = facts.hub.get("status")
    if status in (401, 403) and facts.token:
        fix = f"unset {facts.token}" if facts.token.isupper() else "hf auth login"
        found = f"{facts.endpoint} refuses the token in {facts.token} (HTTP {status}); public downloads fail too"
        return [Finding("hub", "broken", found, fix)]
    if status == 429 or (status is not None and status >= 500):
        found = f"{facts.endpoint} answers HTTP {status}; {token}"
        return [Finding("hub", "warning", found, "try again in some minutes; downloads are retried by themselves")]
    if status not in (200, 401, 403):
        return [_unreachable_finding(facts, f"HTTP {status}")]
    if facts.token is None:
        found = f"{facts.endpoint} answers; no token: public repositories only, and nothing can be pushed"
        return [Finding("hub", "note", found, "hf auth login")]
    return [Finding("hub", "ok", f"{facts.endpoint} answers; {token}, of {facts.hub.get('user')}")]


def _unreachable_finding(facts: Environment, reason: str) -> Finding:
    found = f"{facts.endpoint} cannot be reached: {reason}"
    offline = "export HF_HUB_OFFLINE=1  (if this machine has no network"
    if facts.endpoint.rstrip("/") != "https://huggingface.co":
        return Finding("hub", "broken", found, f"unset HF_ENDPOINT  (if {facts.endpoint} is not meant); {offline})")
    return Finding("hub", "broken", found, f"{offline}; behind a proxy: export HTTPS_PROXY=http://host:port)")


CHECKS: tuple[Callable[[Environment], list[Finding]], ...] = (
    check_packages, check_torch, check_torchvision, check_imports, check_gpu, check_decoders, check_shared_memory,
    check_disk, check_hub,
)  # fmt: skip


def _parse_version(version: str) -> tuple[int, ...]:
    """Parse `2.13.0+cpu` to (2, 13, 0), up to the first part that is no number."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()


def _is_at_least(version: str | None, minimum: str) -> bool:
    return version is not None and _parse_version(version) >= _parse_version(minimum)


def _format_bytes(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / 2**20:.0f} MiB"


def _first_line(text: str) -> str:
    """Return the first line that is not empty, shortened."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else "it does not say why"

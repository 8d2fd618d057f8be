"""The card, its driver, and whether the installed torch fits them."""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from aozora_tui.doctor.finding import Finding

GIB = 1 << 30
# The oldest NVIDIA driver for each CUDA major version, by "minor version compatibility":
# docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, table 1.
MINIMUM_DRIVER = {11: 450, 12: 525, 13: 580}
OTHER_BUILD = "pytorch.org/get-started/locally shows the command for each"


class TorchBuild(Struct, frozen=True, kw_only=True):
    """`cuda` is the version torch was built for ("13.0"), None for a build without; `other` names ROCm or the like."""

    version: str
    cuda: str | None
    other: str = ""


def described(name: str | None, memory: int | None) -> str:
    """`memory` in bytes."""
    known = name or "a card without a name"
    return f"{known}, {memory / GIB:.1f} GiB" if memory else known


def torch_build() -> TorchBuild | None:
    """The installed torch as its own version file describes it; None if there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return read_build(text)


def read_build(text: str) -> TorchBuild | None:
    """torch/version.py as a build."""
    named = dict(re.findall(r"^(\w+)\s*(?::[^=\n]+)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE))
    if "__version__" not in named:
        return None
    other = next((f"{kind} {named[kind]}" for kind in ("rocm", "hip", "xpu") if kind in named), "")
    return TorchBuild(version=named["__version__"], cuda=named.get("cuda"), other=other)


def cards(found: Sequence[str], driver: str | None, why_not: str | None) -> Iterator[Finding]:
    """What NVML says. No card is a note: the demo and every command but training itself work without one."""
    if not found:
        text = "no NVIDIA card can be used; the demo trains on the processor"
        yield Finding(topic="card", level="note", text=text, remedy=why_not or "")
        return
    for index, text in enumerate(found):
        yield Finding(topic=f"card {index}", level="ok", text=text)
    yield Finding(
        topic="driver", level="ok" if driver else "note", text=driver or "the driver does not tell its version"
    )


def torch(build: TorchBuild | None, driver: str | None, *, has_card: bool) -> Finding:
    """Does the torch that is installed fit the driver that is running?"""
    if build is None:
        remedy = f"Install torch: {OTHER_BUILD}."
        return Finding(topic="torch", level="wrong", text="is not installed, or damaged", remedy=remedy)
    if build.other:
        text = f"{build.version} ({build.other}): only NVIDIA cards and the processor are tested"
        return Finding(topic="torch", level="note", text=text)
    if build.cuda is None:
        if not has_card:
            return Finding(topic="torch", level="ok", text=f"{build.version}, for the processor")
        text = f"{build.version} is a build for the processor: the card lies idle"
        remedy = f"Install a torch build for {best_cuda(driver)}: {OTHER_BUILD}."
        return Finding(topic="torch", level="wrong", text=text, remedy=remedy)
    text = f"{build.version}, built for CUDA {build.cuda}"
    minimum = MINIMUM_DRIVER.get(_major(build.cuda))
    if driver is None or minimum is None or _major(driver) >= minimum:
        return Finding(topic="torch", level="ok", text=text)
    remedy = (
        f"Update the driver to {minimum} or newer, or install a torch build for {best_cuda(driver)}: {OTHER_BUILD}."
    )
    text = f"{text}, which needs driver {minimum} or newer; {driver} is running"
    return Finding(topic="torch", level="wrong", text=text, remedy=remedy)


def best_cuda(driver: str | None) -> str:
    """The newest CUDA major version that a driver can run, in words."""
    able = [major for major, minimum in MINIMUM_DRIVER.items() if driver is None or _major(driver) >= minimum]
    return f"CUDA {max(able)}" if able else "an older CUDA"


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0

"""Python and its packages, the disk, memory, and what the system does to processes of a session that ends."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from aozora_tui.doctor.finding import Finding
from engine.contract import places
from engine.contract.tokenizer_files import TokenizerError, find_tokenizers

GIB = 1 << 30
PACKAGES = ("textual", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")


def python(version: tuple[int, int, int]) -> Finding:
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version < (3, 11, 0):
        return Finding(topic="Python", level="wrong", text=text, remedy="Install Python 3.11 or newer.")
    return Finding(topic="Python", level="ok", text=text)


def packages() -> Iterator[Finding]:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        remedy = "Install Aozora TUI again, with its dependencies."
        yield Finding(topic="packages", level="wrong", text=f"missing: {', '.join(missing)}", remedy=remedy)
    yield Finding(topic="packages", level="ok", text=", ".join(versions))


def folders() -> Iterator[Finding]:
    for topic, variable, path in (
        ("runs folder", "AOZORA_RUNS", places.runs_folder()),
        ("data folder", "AOZORA_DATA", places.data_folder()),
        ("cache folder", "AOZORA_CACHE", places.cache_folder()),
    ):
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        yield folder(
            topic,
            path,
            free=shutil.disk_usage(existing).free,
            writable=existing.is_dir() and os.access(existing, os.W_OK | os.X_OK),
            variable=variable,
        )


def folder(topic: str, path: Path, *, free: int, writable: bool, variable: str) -> Finding:
    """`free` in bytes. A full SDXL checkpoint and export take about 17 GB."""
    text = f"{path}, {free / 1e9:.1f} GB free"
    if not writable:
        remedy = f"Mend its permissions, or set {variable} to another folder."
        return Finding(topic=topic, level="wrong", text=f"{path} cannot be written", remedy=remedy)
    if free < 1e9:
        return Finding(topic=topic, level="wrong", text=text, remedy=f"Free some space, or set {variable}.")
    if free < 30e9:
        remedy = f"A whole SDXL run writes about 30 GB: set {variable} to a larger disk for that."
        return Finding(topic=topic, level="note", text=text, remedy=remedy)
    return Finding(topic=topic, level="ok", text=text)


def memory() -> Iterator[Finding]:
    total, available = _memory()
    if total:
        limited = ""
        if (limit := _cgroup_limit()) and limit < total:
            limited = f"; this container may use {limit / GIB:.1f} GiB"
        text = f"{available / GIB:.1f} of {total / GIB:.1f} GiB free{limited}"
        yield Finding(topic="memory", level="ok" if min(total, limit or total) >= 15 * GIB else "note", text=text)
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    text = (
        "without limit"
        if soft == resource.RLIM_INFINITY
        else f"up to {soft / (1 << 20):,.0f} MiB a process (ulimit -l)"
    )
    yield Finding(topic="locked memory", level="ok", text=text)


def _memory() -> tuple[int, int]:
    """(total, available) bytes of the machine; zeros where /proc does not tell."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0, 0
    amounts = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return amounts.get("MemTotal", 0), amounts.get("MemAvailable", 0)


def _cgroup_limit() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() else None
    return None


def logind(folder: Path = Path("/etc/systemd")) -> Iterator[Finding]:
    """Whether logging out ends every process of the person, engines too."""
    files = (folder / "logind.conf", *sorted(folder.glob("logind.conf.d/*.conf")))
    answer = ""
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for value in re.findall(r"^\s*KillUserProcesses\s*=\s*(\w+)", text, re.MULTILINE):
            answer = value.lower()
    if answer in ("yes", "true", "1", "on"):
        text = "KillUserProcesses is on: logging out ends runs too"
        yield Finding(topic="logging out", level="wrong", text=text, remedy="Run `loginctl enable-linger` once.")


def tokenizer() -> Finding:
    """Whether CLIP's vocabulary is here for profiles that leave `model.tokenizer` empty and start from one file."""
    try:
        found, _ = find_tokenizers(None)
    except TokenizerError as error:
        demo = " (the demo has its own)" if (places.demo_folder() / "tokenizer" / "vocab.json").is_file() else ""
        return Finding(topic="tokenizer", level="note", text=f"{error.text}{demo}", remedy=error.remedy)
    return Finding(topic="tokenizer", level="ok", text=str(found))

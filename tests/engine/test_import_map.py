"""Who may import whom, and what the app must never load. A picture of the code that fails when the code leaves it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ALLOWED = {
    "engine.contract": set(),
    "engine.objective": {"engine.contract"},
    "engine.model": {"engine.contract"},
    "engine.data": {"engine.contract"},
    "engine.optim": {"engine.contract"},
    "engine.memory": {"engine.optim", "engine.contract"},
    "engine.run": {
        "engine.memory",
        "engine.data",
        "engine.model",
        "engine.optim",
        "engine.objective",
        "engine.contract",
    },
    "engine": {"engine.run", "engine.contract", "engine.data"},
    "aozora_tui": {"engine.contract"},
}
HEAVY = ("torch", "numpy", "diffusers", "transformers", "PIL", "accelerate", "safetensors")
CONTRACT_MAY_LOAD = {"msgspec", "PIL", "tomli_w", "platformdirs", "pynvml"}


def room_of(module: str) -> str:
    """`engine.run.train` lives in `engine.run`, `engine.__main__` in `engine`, `aozora_tui.app` in `aozora_tui`."""
    parts = module.split(".")
    if parts[0] == "engine" and len(parts) > 1 and (ROOT / "engine" / parts[1]).is_dir():
        return ".".join(parts[:2])
    return parts[0]


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where things come from"
            assert node.module
            # `from engine.contract import rundir` imports a module, `from engine.run.job import execute` a name.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


SOURCES = sorted(file for package in ("engine", "aozora_tui") for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_stay_within_the_map(file: Path):
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    room = room_of(module)
    for imported in imports_of(file):
        if not imported.startswith(("engine", "aozora_tui")) or imported == "engine.__version__":
            continue
        other = room_of(imported)
        assert other == room or other in ALLOWED[room], f"{module} imports {imported}: {room} may not know {other}"


CONTRACT = [file for file in SOURCES if file.is_relative_to(ROOT / "engine" / "contract")]


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("file", CONTRACT, ids=name_of)
def test_the_contract_needs_msgspec_and_the_standard_library_only(file: Path):
    top = {name.split(".")[0] for name in imports_of(file)} - {"engine"}
    assert top - set(sys.stdlib_module_names) <= CONTRACT_MAY_LOAD


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import aozora_tui.cli",
        "import aozora_tui.app; from aozora_tui.screens import home, profile, layers, run, log, help",
        "import " + ", ".join(map(name_of, CONTRACT)),
    ],
    ids=["command line", "app", "contract"],
)
def test_the_app_starts_without_torch_numpy_or_diffusers(statement: str):
    loaded = loaded_by(statement)
    assert not loaded & set(HEAVY)
    assert "aozora_tui" in loaded or "engine" in loaded


def test_a_command_without_a_screen_loads_no_textual():
    assert "textual" not in loaded_by("from aozora_tui.cli import main; main(['runs'])")

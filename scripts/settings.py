"""Writes docs/settings.md, the tables of every setting of a profile and of the app, from their own definitions.

python scripts/settings.py
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from aozora_tui.settings import FILE_NAME, VARIABLES
from aozora_tui.settings_fields import Folders, Look, Notify
from engine.contract.decode import as_toml, expected, unwrap
from engine.contract.fields import FormField, sections

TARGET = Path(__file__).parents[1] / "docs" / "settings.md"
_BEGINNING = """# Every setting of a profile

Made by `scripts/settings.py` from the definitions in `engine/contract/sections`; what is not written has its default.
Those of the app itself are [further down](#settings-of-the-app).
"""
_OF_THE_APP = f"""# Settings of the app

They stand in `{FILE_NAME}` in your configuration folder (`~/.config/aozora-tui`, or where the variable `AOZORA_CONFIG`
says). `aozora-tui settings` names the file and says what holds and why; `--edit` opens it, made if there is none;
`--example` prints one with everything in it. The command line (`--slow-link`, `--ascii`, `--no-mouse`) counts before
the environment, the environment before the file. In the environment true is 1 and false 0; `AOZORA_ASCII=1` is ascii,
0 unicode. A theme chosen in the app is written into the file.
"""
_KEYS = """Which keys do what, as `"profile.save" = "f2,ctrl+x"`. `aozora-tui settings --example` lists every command
with its keys; those that clash are left out, and that is said.
"""
_OF_THE_ENGINE = f"""# The engine by itself

`python -m engine` is a program of its own and reads no `{FILE_NAME}`: where it keeps things comes from the environment
alone, by the four variables under [folders]. An engine that the app or one of its commands starts is told the folders
that hold there, whatever they come from. One that you start by hand, or from a job script, has the system's own unless
you say otherwise: `AOZORA_CACHE=/fast/cache python -m engine train PROFILE`.
"""


def document() -> str:
    """The whole text."""
    parts = [_BEGINNING]
    for section in sections():
        parts += [f"## [{section.name}]", section.help, "\n".join(_table(section.fields))]
    parts.append(_OF_THE_APP)
    for name, kind in (("look", Look), ("folders", Folders), ("notify", Notify)):
        parts += [f"## [{name}]", str(kind.__doc__), "\n".join(_own_table(name, kind))]
    parts += ["## [keys]", _KEYS, _OF_THE_ENGINE]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(fields: tuple[FormField, ...]) -> list[str]:
    rows = ["| setting | takes | default | what it does |", "|---|---|---|---|"]
    return rows + [
        f"| `{field.name}` | {_cell(_takes(field))} | {_default(field)} | {_cell(field.help)} |" for field in fields
    ]


def _own_table(part: str, kind: type[Struct]) -> list[str]:
    rows = ["| setting | variable | takes | default | what it does |", "|---|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        meta = unwrap(field.type)[1]
        unit = (meta.extra or {}).get("unit")
        taken = f"{expected(field.type)}{f', in {unit}' if unit else ''}"
        variable = VARIABLES.get(f"{part}.{field.name}")
        cells = (f"`{variable}`" if variable else "", _cell(taken), f"`{as_toml(field.default)}`")
        rows.append(f"| `{field.name}` | {' | '.join(cells)} | {_cell(str(meta.description))} |")
    return rows


def _takes(field: FormField) -> str:
    if field.kind == "folders":
        return "`[[data.folders]]` tables with `path` and `repeats`"
    taken = "a list of `[at, value]`" if field.kind == "points" else field.expected.replace(", required", "")
    example = "" if field.example is None else f", as `{as_toml(field.example)}`"
    return f"{taken}{f', in {field.unit}' if field.unit else ''}{example}"


def _default(field: FormField) -> str:
    if field.required:
        return "must be written"
    return f"`{msgspec.json.encode(field.default).decode()}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")

"""Writes docs/settings.md, the table of every setting, from the profile's own definitions.

python scripts/settings.py
"""

from pathlib import Path

import msgspec

from engine.contract.decode import as_toml
from engine.contract.fields import FormField, sections

TARGET = Path(__file__).parents[1] / "docs" / "settings.md"
_BEGINNING = """# Every setting of a profile

Made by `scripts/settings.py` from the definitions in `engine/contract/sections`; what is not written has its default.
"""


def document() -> str:
    """The whole text."""
    parts = [_BEGINNING]
    for section in sections():
        parts += [f"## [{section.name}]", section.help, "\n".join(_table(section.fields))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(fields: tuple[FormField, ...]) -> list[str]:
    rows = ["| setting | takes | default | what it does |", "|---|---|---|---|"]
    return rows + [
        f"| `{field.name}` | {_cell(_takes(field))} | {_default(field)} | {_cell(field.help)} |" for field in fields
    ]


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

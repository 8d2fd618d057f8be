"""What the form writes beside a field: default, range, an example."""

from __future__ import annotations

import re

from engine.contract.decode import unwrap
from engine.contract.fields import FormField, form_fields, sections

# One entry of a table or a curve, as it is written in its field; of a curve that is not here, over the timesteps.
EXAMPLES = {
    "optimizer.rates": "mid_block.* = 0.5",
    "optimizer.arguments": "betas = [0.9, 0.99]",
    "schedule.curve": "0.5 0.4",
}
OVER_TIMESTEPS = "500 0.4"


def range_text(field: FormField) -> str:
    """`updates  1 to 10,000,000`, as short as it can be said."""
    meta = unwrap(field.annotation)[1]
    if meta.ge is not None and meta.le is not None:
        bounds = f"{_bound(meta.ge)} to {_bound(meta.le)}"
    elif meta.ge is not None and meta.lt is not None:
        bounds = f"{_bound(meta.ge)} to below {_bound(meta.lt)}"
    elif meta.gt is not None and meta.le is not None:
        bounds = f"above {_bound(meta.gt)}, to {_bound(meta.le)}"
    else:
        bounds = ""
    return "  ".join(part for part in (field.unit, bounds) if part)


def in_lines(remedy: str) -> str:
    """Points of a curve as they are written in its field, not as TOML writes them: `Write curve = [[0, 1.0], [1, 0.1]]
    or other points` becomes `Write 0 1.0 and 1 0.1, each on a line, or other points`."""

    def lines(found: re.Match[str]) -> str:
        points = [point.replace(",", "") for point in re.findall(r"\[([^\[\]]+)\]", found[1])]
        return f"{' and '.join(points)}, each on a line,"

    return re.sub(r"\w+ = (\[\[.*?\]\])", lines, remedy)


def in_form_words(remedy: str) -> str:
    """`choose both for Trained under Text encoders` for `write train = "both" in [text_encoders]`."""

    def choose(found: re.Match[str]) -> str:
        field = form_fields().get(f"{found[4]}.{found[2]}")
        section = next((section.label for section in sections() if section.name == found[4]), "")
        verb = "Choose" if found[1] == "Write" else "choose"
        return f"{verb} {found[3]} for {field.label} under {section}" if field else found[0]

    return re.sub(r'(write|Write) (\w+) = "(\w+)" in \[(\w+)\]', choose, remedy)


def _bound(value: float) -> str:
    return f"{value:,}" if value < 1e6 else f"{value:.0e}".replace("e+0", "e") if value % 1e6 == 0 else f"{value:,}"

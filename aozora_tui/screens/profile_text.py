"""The lines around the form: forecast, sum of problems, help of a field."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual.content import Content

from aozora_tui.cards import none_fits
from aozora_tui.screens.field_words import EXAMPLES, OVER_TIMESTEPS
from aozora_tui.screens.lines import entry_lines, value_text
from aozora_tui.screens.rows import Line
from aozora_tui.screens.words import FAINT, counted, cut, plain
from aozora_tui.text import size
from engine.contract.fields import FormField, Section, form_fields
from engine.contract.layers import human
from engine.contract.outlook import Outlook
from engine.contract.problems import Problem, errors
from engine.contract.profile_values import default_of


@dataclass(frozen=True)
class Known:
    """A field's value on the disk and in the form, None where it is not written; and where it would have an effect, as
    the end of the sentence "has no effect", if it has none now. `running` is what the profile's live run has, as the
    form would show it, where that is something else."""

    saved: Any = None
    now: Any = None
    idle: str = ""
    running: Any = None


def field_of(problem: Problem) -> str:
    """The form's field a problem belongs to."""
    return field_path(problem.path)


def field_path(path: str) -> str:
    """Without what leads into the field: `data.folders` for `data.folders[0].path`, `optimizer.rates` for one of its
    entries."""
    outside = path.partition("[")[0]
    table = ".".join(path.split(".")[:2])
    return table if table in form_fields() and form_fields()[table].kind == "table" else outside


def no_forecast(problems: Sequence[Problem]) -> Content:
    """Why there is none."""
    wrong = (
        "No forecast while there is a problem."
        if errors(problems)
        else "No forecast before the base checkpoint is there."
    )
    return Content.styled(wrong, FAINT)


def forecast_text(ahead: Outlook, usable: int | None, width: int) -> Content:
    """What the run will take, in one line of `width`; `usable` bytes of the card are the run's, if that is known. What
    can be missed is left out where there is no room; the plan, which then has no label, never."""
    lines = (_line(ahead, usable, level) for level in range(_LEAST + 1))
    return next((line for line in lines if line.cell_length <= width), _line(ahead, usable, _LEAST))


_LEAST = 6  # the fewest words


def _line(ahead: Outlook, usable: int | None, less: int) -> Content:
    """From `less` = 1 on without the disk, then without what all parameters are, wide gaps, the share, a label, what is
    trained. Memory and time, which decide whether one starts, always stay."""
    cost = ahead.cost
    share = f", {100 * cost.trained / max(cost.total, 1):.1f} %" if less < 4 else ""
    pieces: list[list[Content | str | tuple[str, str]]] = []
    if less < 6:
        pieces.append([("trains ", FAINT), human(cost.trained), f" of {human(cost.total)}" if less < 2 else "", share])
    if usable is not None:
        label = ("plan " if less < 5 else "", FAINT)
        pieces.append([("no plan fits", "$warning")] if none_fits(ahead) else [label, cost.choice.plan])
    pieces += _memory(ahead, usable)
    if ahead.hours is not None and ahead.rates is not None:
        measured = "" if ahead.rates.source == "measured" else "~"
        pieces.append([("time ", FAINT), f"{measured}{ahead.hours:,.1f} h"])
    if less < 1:
        pieces.append([("disk ", FAINT), size(cost.disk)])
    return Content(" " * (3 if less < 3 else 2)).join([Content.assemble(*piece) for piece in pieces])


def _memory(ahead: Outlook, usable: int | None) -> list[list[Content | str | tuple[str, str]]]:
    cost = ahead.cost
    over = usable is not None and cost.device > usable
    card = f"{_gib(cost.device)}{f'/{_gib(usable)}' if usable is not None else ''} GiB{' !' if over else ''}"
    return [[("card ", FAINT), (card, "$warning" if over else "")], [("host ", FAINT), f"{_gib(cost.host)} GiB"]]


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f}"


def summary_text(problems: Sequence[Problem], *, checked: bool, key: str) -> Content:
    """One line for all problems; `checked` once the machine was looked at too. `key` goes to the next."""
    wrong = len(errors(problems))
    notes = len(problems) - wrong
    parts = [counted(wrong, "problem")] if wrong else []
    parts += [counted(notes, "note")] if notes else []
    if parts:
        text = f"! {', '.join(parts)}: {key} goes to the next"
        return Content.styled(text, "$error" if wrong else "$warning")
    return Content.styled(plain("✓ no problem"), "$success") if checked else Content.styled("Checking", FAINT)


def section_line(section: Section, problems: Sequence[Problem], *, faint: bool = False) -> Line:
    """A section's name, and how many problems it has; `faint`: there is nothing to see in it."""
    found = [problem for problem in problems if field_of(problem).partition(".")[0] == section.name]
    mark = (f"!{len(found)}", "bad" if errors(found) else "attention") if found else ("", "")
    return Line(section.name, ((section.label, "dim" if faint else "plain"), mark))


def help_text(field: FormField, known: Known, *, width: int, height: int) -> Content:
    """What a field is for; then its path, what it takes, its default, and what the disk has if that differs. What does
    not fit into `height` lines of `width` is left out of the first part, with a sign."""
    facts = _facts(field, known)
    dot = plain(" · ")
    if field.choices and len(dot.join(facts)) > width:
        facts[1] = f"one of {len(field.choices)} words"
    below = _wrapped(dot.join(facts), width, 2)
    idle = f"Has no effect {known.idle}. " if known.idle else ""
    above = _wrapped(idle + field.help, width, height - len(below))
    return Content.assemble("\n".join(above), ("\n" + "\n".join(below), FAINT))


def _facts(field: FormField, known: Known) -> list[str]:
    facts = [field.path, field.expected]
    if field.kind == "folders":
        facts[1] = "one a line: 1 x /folder"
    elif field.kind == "points":
        facts[1] = f"one point a line: {EXAMPLES.get(field.path, OVER_TIMESTEPS)}"
    elif field.kind == "table":
        facts[1] = f"one a line: {EXAMPLES[field.path]}"
    elif field.kind == "texts":
        facts[1] = "one a line"
    elif field.required and field.kind in ("text", "file", "folder"):
        facts[1] = "text, required"
    if not field.required and field.default not in ((), "", {}):
        facts.append(f"default {short(default_of(field))}")
    facts.append(_origin(known))
    if known.running is not None:
        facts.append(f"the run has {short(known.running) or 'nothing'}")
    return facts


def _origin(known: Known) -> str:
    """Where the value comes from: the default, the file, or an edit that is not saved."""
    if known.saved != known.now:
        return "changed, not in the file" if known.saved is None else f"changed, in the file {short(known.saved)}"
    return "not written" if known.now is None else "written in the file"


def _wrapped(text: str, width: int, most: int) -> list[str]:
    lines = textwrap.wrap(text, max(width, 20), break_on_hyphens=False)
    return lines if len(lines) <= most else [*lines[: most - 1], cut(" ".join(lines[most - 1 :]), max(width, 20))]


def short(value: Any) -> str:
    """A plain TOML value in one line."""
    return ", ".join(entry_lines(value)) if isinstance(value, list | tuple | dict) else value_text(value)

"""A profile and a run as one line of a list."""

from __future__ import annotations

from pathlib import Path

from aozora_tui.runs import RunSummary
from aozora_tui.screens.rows import Column, Line
from aozora_tui.screens.words import counted, state_style, state_text
from aozora_tui.text import age
from engine.contract.profile import parse

PROFILE_COLUMNS = (Column("profile", 0), Column("", 7), Column("learns", 12), Column("steps", 9, right=True))
RUN_COLUMNS = (
    Column("run", 0),
    Column("state", 12),
    Column("step", 13, right=True),
    Column("loss", 7, right=True),
    Column("age", 7, right=True),
)


def run_line(path: str, summary: RunSummary, now: float) -> Line:
    """`path` names the line; `now` in Unix seconds."""
    seen = now - summary.last_event if summary.last_event else summary.age
    style = state_style(summary.state)
    return Line(
        path,
        (
            (summary.name, "live" if style == "live" else "plain"),
            (state_text(summary.state), style),
            (f"{summary.step:,}/{summary.steps:,}" if summary.steps else "", "plain"),
            (f"{summary.loss:.4f}" if summary.loss is not None else "", "plain"),
            ("" if summary.state == "unreadable" else age(max(seen, 0)), "dim"),
        ),
    )


def profile_line(path: Path, recipe: bool) -> Line:
    """What it learns and for how long, or what keeps it from that."""
    kind = ("recipe", "dim") if recipe else ("yours", "plain")
    try:
        if not path.is_file():
            raise OSError("not a file")
        profile, problems = parse(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError):
        return Line(str(path), ((path.stem, "plain"), kind, ("unreadable", "bad"), ("", "plain")))
    if profile is None:
        word = "no TOML" if problems and problems[0].path == path.name else counted(len(problems), "problem")
        return Line(str(path), ((path.stem, "plain"), kind, (f"! {word}", "bad"), ("", "plain")))
    learns = profile.objective.prediction_type
    return Line(str(path), ((path.stem, "plain"), kind, (learns, "dim"), (f"{profile.train.steps:,}", "dim")))

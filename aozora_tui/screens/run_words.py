"""What the run screen says in whole lines: how a run ended, and what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import PurePath

from textual.content import Content

from aozora_tui.remote import links
from aozora_tui.run_state import Note, RunState
from aozora_tui.screens.base import KIND_SIGNS, KIND_STYLES
from aozora_tui.screens.words import cut, middle, plain
from aozora_tui.text import home_path, printable
from engine.contract.rundir import RunDir, State


def outcome(state: RunState, word: State, run: RunDir, width: int, key_name: Callable[[str], str]) -> Content:
    """What went wrong and what to do, or where the finished files are; nothing of a run that goes on."""
    if word == "failed" and state.failed is not None:
        return _trouble(state.failed.text, state.failed.remedy)
    if word == "crashed":
        text = "The engine ended without a word: it was killed, ran out of memory, or the power was cut"
        again, log = key_name("run.resume"), key_name("run.log")
        if state.checkpoint is None:
            return _trouble(text, f"It had saved no checkpoint: {again} begins it again; {log} shows the log.")
        return _trouble(text, f"{again} goes on from the last checkpoint; {log} shows the log.")
    if word == "elsewhere":
        return _trouble("This run was started on another machine", "Steer it from there.")
    if word == "finished":
        return made(state, run, width)
    return Content()


def made(state: RunState, run: RunDir, width: int) -> Content:
    """The finished files and the previews, a line each; whole paths are among the numbers."""
    lines = [("exported", home_path(links.folder(run) / path), "") for path in state.exports]
    if state.samples:
        last = PurePath(state.samples[-1].path)
        lines.append(("previews", home_path((links.folder(run) / last).parent), f"  ({len(state.samples):,})"))
    room = max(width - 12, 20)
    shown = [(label, middle(path, room - len(more)) + more) for label, path, more in lines]
    parts = [Content.assemble((f"{label}  ", "$success"), printable(text)) for label, text in shown]
    return Content("\n").join(parts)


def newest(notes: Iterable[Note], count: int) -> list[Note]:
    """The last ones, of which several that say the same one after another are one: a warning that comes every minute
    pushes out nothing else."""
    found: list[tuple[Note, int]] = []
    for note in reversed([*notes]):
        if found and found[-1][0].text == note.text:
            found[-1] = found[-1][0], found[-1][1] + 1
        elif len(found) == count:
            break
        else:
            found.append((note, 1))
    return [
        note if times == 1 else replace(note, text=f"{times} times: {note.text}") for note, times in reversed(found)
    ]


def note_line(note: Note, width: int) -> Content:
    """`12:03:41  what happened`."""
    clock = time.strftime("%H:%M:%S", time.localtime(note.time))
    text = cut(plain(KIND_SIGNS[note.kind]) + note.text, width - len(clock) - 2)
    return Content.assemble((f"{clock}  ", "$foreground 60%"), (text, KIND_STYLES[note.kind]))


def _trouble(text: str, remedy: str) -> Content:
    return Content.assemble((f"!! {text.rstrip('.')}. ", "$error"), remedy)

"""What can be set: types, ranges, defaults and help of the settings file."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from engine.contract.about import about
from engine.contract.decode import decode_value
from engine.contract.problems import Problem

Theme = Literal[
    "aozora",
    "ansi-dark",
    "ansi-light",
    "atom-one-dark",
    "atom-one-light",
    "catppuccin-frappe",
    "catppuccin-latte",
    "catppuccin-macchiato",
    "catppuccin-mocha",
    "dracula",
    "flexoki",
    "gruvbox",
    "monokai",
    "nord",
    "rose-pine",
    "rose-pine-dawn",
    "rose-pine-moon",
    "solarized-dark",
    "solarized-light",
    "textual-dark",
    "textual-light",
    "tokyo-night",
]


class Look(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the app looks, and what it sends to the terminal."""

    theme: Annotated[Theme, about("Theme", "The colours. ansi-dark and ansi-light are your terminal's own.")] = "aozora"
    glyphs: Annotated[
        Literal["auto", "unicode", "ascii"],
        about(
            "Glyphs",
            "auto asks the locale; ascii draws charts, borders and signs with plain characters.",
            aliases={"utf8": "unicode", "plain": "ascii"},
        ),
    ] = "auto"
    tick: Annotated[
        float, about("Tick", "How often a live run is looked at; 2 over a slow link.", "seconds", ge=0.5, le=10)
    ] = 1.0
    slow_link: Annotated[bool, about("Slow link", "Send less: fewer frames, a slower tick.")] = False
    mouse: Annotated[bool, about("Mouse", "Take clicks and the wheel; off, the terminal can select text.")] = True


class Folders(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where things are kept; an absolute path, or one from ~. Empty: the platform's place."""

    runs: Annotated[str, about("Runs", "One folder a run. Empty: in the data folder.", kind="folder")] = ""
    profiles: Annotated[str, about("Profiles", "Your own profiles. Empty: in the data folder.", kind="folder")] = ""
    cache: Annotated[str, about("Cache", "Encoded pictures and captions; safe to delete.", kind="folder")] = ""
    data: Annotated[str, about("Data", "The demo's files; runs and profiles too, if unset.", kind="folder")] = ""


NotableEvent = Literal["finished", "failed", "warning"]


class Notify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Word of a run that is being watched, in the app or by `watch`; nothing unless it is set here."""

    on: Annotated[
        tuple[NotableEvent, ...],
        about("On", "What is told: its end, a failure or crash, a warning about its health or its machine."),
    ] = ("finished", "failed", "warning")
    terminal: Annotated[
        Literal["off", "bell", "message"],
        about(
            "Terminal",
            "bell rings; message is a notification of the desktop (OSC 9), where the terminal knows that. In tmux it "
            "takes `set -g allow-passthrough on`.",
        ),
    ] = "off"
    command: Annotated[
        tuple[str, ...],
        about(
            "Command",
            "A program and its arguments, started without a shell and given 30 s; AOZORA_RUN, AOZORA_EVENT and "
            "AOZORA_TEXT in its environment say what happened.",
            examples=[["/home/me/bin/tell-me"]],
        ),
    ] = ()
    webhook: Annotated[
        str,
        about(
            "Webhook",
            "An address that JSON is posted to: run, event, text, time; Slack, Mattermost and Discord show the text.",
            remedy="Write an address that begins with https:// or http://.",
            pattern=r"^(https?://\S+)?$",
            examples=["https://example.org/hook"],
        ),
    ] = ""


KeyList = Annotated[str, about("Keys", "", remedy='Write the keys in quotes, commas between them, as "f2,ctrl+x".')]


class Written(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: every section and key of it may be missing."""

    look: Annotated[Look, about("Look", "")] = Look()
    folders: Annotated[Folders, about("Folders", "")] = Folders()
    notify: Annotated[Notify, about("Notify", "")] = Notify()
    keys: Annotated[dict[str, KeyList], about("Keys", "")] = {}


def read_look(name: str, raw: Any, where: str) -> tuple[Any, Problem | None]:
    """The value of a field of `Look`; `where` names it in the problem."""
    kind = next(one for one in msgspec.structs.fields(Look) if one.name == name)
    value, problems = decode_value(kind.type, raw, where, kind.default)
    return value, shorter(problems[0]) if problems else None


def shorter(problem: Problem) -> Problem:
    """There are more themes than a sentence can name."""
    said, _, words = problem.text.partition(" is not one of ")
    if len(words.split()) < 10:
        return problem
    remedy = problem.remedy if problem.remedy.startswith("Did you mean") else f"Take one of {words}."
    return msgspec.structs.replace(problem, text=f"{said} is no theme", remedy=remedy)

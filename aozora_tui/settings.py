"""A person's settings: how the app looks, where folders are, which keys do what.

Each comes from the command line, else the environment, else `settings.toml`, else it is the default. What is wrong is
left out and told; nothing here ends a command. They are read before Textual is imported, which looks at its own
variables only then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct, field, structs

from engine.contract import places
from engine.contract.problems import Problem

if TYPE_CHECKING:
    from aozora_tui.own_keys import Keys
    from aozora_tui.settings_fields import Folders, Look, Notify

FILE_NAME = "settings.toml"
SLOW_TICK = 2.0
OWN_THEME = "aozora"
BARE_THEME = "ansi-dark"  # any other but ansi-light leaves greys, which are colours too
VARIABLES = {
    "look.theme": "TEXTUAL_THEME",
    "look.glyphs": "AOZORA_ASCII",
    "look.tick": "AOZORA_TICK",
    "look.slow_link": "AOZORA_SLOW_LINK",
    "look.mouse": "AOZORA_MOUSE",
    "folders.runs": "AOZORA_RUNS",
    "folders.profiles": "AOZORA_PROFILES",
    "folders.cache": "AOZORA_CACHE",
    "folders.data": "AOZORA_DATA",
}


_WAYS = ("terminal", "command", "webhook")
_SWITCHES = {"look.glyphs": "--ascii", "look.slow_link": "--slow-link", "look.mouse": "--no-mouse"}


class Value(NamedTuple):
    """`source` is `default`, `file`, a variable of the environment, or a switch of the command line."""

    value: Any
    source: str


class Settings(Struct, frozen=True, kw_only=True):
    """What holds. `values` has what is not the default, by dotted name, each with its source; folders are absolute.
    `written_keys` are those of the file, by id, until `with_keys` has put what is right of them into `own_keys`.
    `problems` name the file, or the variable, with the setting."""

    file: Path | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    written_keys: Mapping[str, str] = field(default_factory=dict)
    own_keys: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    again: Callable[[], Any] | None = None

    # What follows is imported when it is asked for: a command without a screen never does.

    @property
    def look(self) -> Look:
        from aozora_tui.settings_fields import Look

        return Look(**self._part("look."))

    @property
    def folders(self) -> Folders:
        """As they were set; empty where they were not."""
        from aozora_tui.settings_fields import Folders

        return Folders(**self._part("folders."))

    @property
    def notify(self) -> Notify:
        from aozora_tui.settings_fields import Notify

        part: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self._part("notify.").items()
        }
        return Notify(**part)

    @property
    def wants_notices(self) -> bool:
        return any(self._part("notify.").get(way) not in (None, "off", "", []) for way in _WAYS)

    @property
    def keys(self) -> Keys:
        from aozora_tui.own_keys import Keys

        return Keys(self.own_keys)

    @property
    def tick(self) -> float:
        """Seconds: as it was said, else a slow link makes it slower."""
        return SLOW_TICK if self.look.slow_link and "look.tick" not in self.values else self.look.tick

    def with_keys(self) -> Settings:
        """The same with the keys checked, which takes the whole keymap: for what shows or presses them."""
        if not self.written_keys:
            return self
        from aozora_tui.settings_reading import check_keys

        own, found = check_keys(self.written_keys)
        return structs.replace(self, own_keys=own, written_keys={}, problems=(*self.problems, *found))

    def source(self, name: str) -> str:
        return self.values[name].source if name in self.values else "default"

    def read_again(self) -> Settings:
        """The file as it is now, beside the same environment and command line."""
        found: Settings = self.again() if self.again else self
        return found.with_keys()

    def _part(self, prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): one.value for name, one in self.values.items() if name.startswith(prefix)}


def read(environment: Mapping[str, str], switches: Mapping[str, Any] | None = None) -> Settings:
    """Everything that holds. `switches`: values by dotted name that the command line gives."""
    file = places.config_folder() / FILE_NAME
    environment = dict(environment)  # as it is now: `apply` changes it
    values: dict[str, Value] = {}
    keys: Mapping[str, str] = {}
    problems: list[Problem] = []
    if file.exists() or file.is_symlink():
        from aozora_tui.settings_reading import read_file

        written, keys, problems = read_file(file)
        values = {name: Value(value, "file") for name, value in written.items()}
    for name, variable in VARIABLES.items():
        if text := environment.get(variable):
            from aozora_tui.settings_environment import read_variable

            value, problem = read_variable(name, variable, text)
            if problem is None:
                values[name] = Value(value, variable)
            else:
                problems.append(problem)
    theme = values["look.theme"].value if "look.theme" in values else OWN_THEME
    if environment.get("NO_COLOR") and not theme.startswith("ansi-"):
        values["look.theme"] = Value(BARE_THEME, "NO_COLOR")
    values |= {name: Value(value, _SWITCHES[name]) for name, value in (switches or {}).items()}
    again = partial(read, environment, switches)
    return Settings(file=file, values=values, written_keys=keys, problems=tuple(problems), again=again)


def apply(settings: Settings, environment: MutableMapping[str, str]) -> None:
    """Leave word in the environment: for the folders' names, for engines, and for Textual's import."""
    held = {name: one.value for name, one in settings.values.items()}
    for name, variable in VARIABLES.items():
        if name.startswith("folders."):
            _put(environment, variable, held.get(name))
    theme = held.get("look.theme")
    _put(environment, "TEXTUAL_THEME", None if theme == OWN_THEME else theme)  # ours Textual does not know yet
    glyphs = held.get("look.glyphs", "auto")
    if glyphs != "auto":
        environment["AOZORA_ASCII"] = "1" if glyphs == "ascii" else "0"
    if held.get("look.slow_link") and not environment.get("TEXTUAL_FPS"):
        environment["TEXTUAL_FPS"] = "5"


def _put(environment: MutableMapping[str, str], variable: str, value: str | None) -> None:
    if value:
        environment[variable] = value
    else:
        environment.pop(variable, None)

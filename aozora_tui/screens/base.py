"""What every screen has: a title line, a message line, the key bar, and one sentence when the terminal is too small."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from textual.app import ComposeResult, SystemCommand
from textual.content import Content
from textual.reactive import Reactive
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from aozora_tui.drawing import DrawnScreen
from aozora_tui.keys.key import Key
from aozora_tui.screens.words import cut, plain, same
from aozora_tui.text import printable

if TYPE_CHECKING:
    from aozora_tui.app import AozoraApp

Result = TypeVar("Result")
Kind = Literal["plain", "good", "warning", "error"]
KIND_STYLES: dict[str, str] = {"plain": "", "good": "$success", "warning": "$warning", "error": "bold $error"}
KIND_SIGNS: dict[str, str] = {"plain": "", "good": "", "warning": "! ", "error": "!! "}
TOO_SMALL = (
    "Aozora needs at least 60 columns and 15 rows: enlarge the window, or use `aozora-tui watch --plain`. {} quits."
)


class KeyBar(Static):
    """The most useful keys of the moment, as many as fit; never a truncated one."""

    ALLOW_SELECT = False

    def show(self, keys: Iterable[Key], *, typing: bool, width: int) -> None:
        """`typing`: letters go into a field now, so only keys that are no letters are named."""
        ranked = sorted((key for key in keys if key.rank), key=lambda key: key.rank)
        named = [(key.rank, (name, key.label)) for key in ranked if (name := _name(key, typing))]
        common = [part for rank, part in named if rank >= 90]
        own = [part for rank, part in named if rank < 90]
        chosen: list[tuple[str, str]] = []
        first = 1 if typing else 2  # help; and quit, where it is one letter
        for part in [*common[:first], *own, *common[first:]]:
            if sum(len(name) + len(label) + 3 for name, label in [*chosen, part]) <= width:
                chosen.append(part)
        ordered = [part for part in own if part in chosen] + [part for part in common if part in chosen]
        text = Content.assemble(
            *(piece for name, label in ordered for piece in ((f" {name}", "bold $accent"), f" {label} "))
        )
        if text != self.content:
            self.update(text, layout=False)


def _name(key: Key, typing: bool) -> str:
    if typing:
        return next((name for name in key.names if len(name) > 1), "")
    return key.names[0]


class AozoraScreen(DrawnScreen[Result]):
    """A screen of the app. `scopes` are the parts of the keymap that hold on it, its own first."""

    scopes: ClassVar[tuple[str, ...]] = ()
    # Textual paints the whole screen anew when the focus moves; the two widgets do that for themselves.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    _said = False

    @property
    def aozora(self) -> AozoraApp:
        from aozora_tui.app import AozoraApp

        assert isinstance(self.app, AozoraApp)
        return self.app

    def compose(self) -> ComposeResult:
        yield Static(id="title", markup=False)
        yield from self.body()
        yield Static(id="message", markup=False)
        yield KeyBar(id="keys", markup=False)
        yield Static(
            TOO_SMALL.format(self.aozora.settings.keys.name_while_typing("app.quit")), id="too-small", markup=False
        )

    def body(self) -> Iterable[Widget]:
        """The widgets between the title and the message line."""
        raise NotImplementedError

    @property
    def typing(self) -> bool:
        """Whether letters are text now."""
        return self.focused is not None and self.focused.check_consume_key("a", "a")

    def active_keys(self) -> list[Key]:
        """The keys that do something now."""
        listed = [key for scope in (*self.scopes, "app") for key in self.aozora.settings.keys.scope(scope)]
        return [
            key for key in listed if self.check_action(name := key.action.partition("(")[0], ()) and self.offers(name)
        ]

    def offers(self, action: str) -> bool:  # noqa: ARG002  (for subclasses)
        """Whether an action is worth a place in the key bar; pressed all the same, it says why it can do nothing."""
        return True

    def key_name(self, id: str) -> str:
        """What to press for a command of the keymap, as a person reads it: for sentences that name a key."""
        return self.aozora.settings.keys.name(id)

    def leave(self, then: Callable[[], object]) -> None:
        """Do `then`, which takes this screen away; a screen with something to lose asks first."""
        then()

    def more_commands(self) -> Iterable[SystemCommand]:
        """What the command palette offers here beyond the keys."""
        return ()

    def update_keys(self) -> None:
        self.query_one(KeyBar).show(self.active_keys(), typing=self.typing, width=self.size.width)

    def say(self, text: str, kind: Kind = "plain") -> None:
        """One line above the keys; it stays until the next key, or until the screen finds that it is no longer so."""
        self._said = True
        self._show_message(text, kind)

    def resting(self) -> tuple[str, Kind]:
        """What the message line says when there is no news."""
        return "", "plain"

    def rest(self, *, over: bool = True) -> None:
        """Go back to that; without `over` only if nothing was said meanwhile."""
        if over or not self._said:
            self._said = False
            self._show_message(*(self.aozora.around.news() or self.resting()))

    def _show_message(self, text: str, kind: Kind) -> None:
        line = plain(cut(KIND_SIGNS[kind] + printable(" ".join(text.split())), max(self.size.width - 2, 20)))
        self.set_line("#message", Content.styled(line, KIND_STYLES[kind]))

    def set_title(self, *parts: str | tuple[str, str]) -> None:
        """What is in it may be called after a file."""
        texts = [printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts]
        self.set_line("#title", Content.assemble(*texts))

    def set_line(self, selector: str, content: Content) -> None:
        """Show a text of fixed size; nothing is sent if it is what is shown already."""
        line = self.query_one(selector, Static)
        if not same(line.content, content):
            line.update(content, layout=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Work in a thread that failed in a way nobody foresaw is said, and ends nothing."""
        if event.state is WorkerState.ERROR:
            self.say(f"That did not work: {event.worker.error}", "error")

    def on_descendant_focus(self) -> None:
        self.update_keys()

    def on_resize(self) -> None:
        self.update_keys()

"""What the cards do now, asked in the background; of a run that has ended, or runs elsewhere, what it told of its card.

Nothing is asked while the screen is covered: a look at the driver happens at a tick, and only the top screen ticks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Protocol

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import card_owners, card_words, runs
from aozora_tui.card_history import Card, CardHistory
from aozora_tui.card_watch import Seen
from aozora_tui.keymap import bindings
from aozora_tui.run_state import RunState
from aozora_tui.screens import card_lines
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.card_panel import CardPanel
from aozora_tui.screens.card_recorded import Recorded
from aozora_tui.screens.words import cut, is_live
from aozora_tui.terminal import ascii_only
from aozora_tui.text import duration, folded, printable
from engine.contract.rundir import RunDir

SILENT = 4.0  # seconds that an answer may take before that is said
SOON = 0.15  # seconds after the first question to its answer, as a rule
OWNERS_EVERY = 5.0  # seconds between two looks at who is whose
LISTED, LISTED_TALL = 3, 8  # cards in the list


class Watch(Protocol):
    """What is asked: `CardWatch`."""

    def look(self) -> Seen: ...


class CardScreen(AozoraScreen[None]):
    """`run` is the one that is watched, `state` the run screen's own, and `read` has it take in what was told since.
    `watch` is asked for the cards; the app's own by default."""

    scopes: ClassVar[tuple[str, ...]] = ("card",)
    BINDINGS = bindings("card")
    CSS_PATH = "card.tcss"

    def __init__(
        self,
        run: RunDir | None = None,
        state: RunState | None = None,
        read: Callable[[], object] = lambda: None,
        *,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        self.run_dir, self.state, self._read = run, state, read
        self.history = CardHistory()
        self.place: int | None = None
        self.all = False
        self.mine: Card | None = None  # that the run trains on, if it is here
        self._recorded: bool | None = None  # as a person chose
        self._pid: int | None = None  # of the run's engine, if that lives here
        self._watch = watch
        self._seen = Seen()
        self._engines: Mapping[int, str] = {}
        self._engines_at = -math.inf

    def body(self) -> Iterable[Widget]:
        yield Static(id="cards", markup=False)
        yield Static(id="source", markup=False)
        yield CardPanel(ascii_only=ascii_only(), id="one")

    def on_mount(self) -> None:
        self.set_timer(SOON, self._first_answer)

    def on_screen_resume(self) -> None:
        self.tick()
        self.update_keys()

    def on_resize(self) -> None:
        super().on_resize()
        self.call_after_refresh(self._show)

    def _first_answer(self) -> None:
        if self._seen.at is None:
            self.tick()

    def tick(self) -> None:
        """Look, and ask for the next time."""
        if self.app.screen is not self:  # something lies over it
            return
        self._read()
        before = len(self.history.cards), self.has_record
        self._seen = (self._watch or self.aozora.card_watch).look()
        self.history.take(self._seen)
        self._find_mine()
        self._show()
        if before != (len(self.history.cards), self.has_record):
            self.update_keys()

    # -- which card ----------------------------------------------------------------------------------------------------

    @property
    def card(self) -> Card | None:
        """The one that is looked at: of a run watched its own, until another one is chosen."""
        cards = self.history.cards
        if self.place is not None and cards:
            return cards[self.place % len(cards)]
        return self.mine or (cards[0] if cards else None)

    @property
    def has_record(self) -> bool:
        """Whether the run has told of its card."""
        return self.state is not None and self.state.machine is not None and bool(self.state.machine.card)

    @property
    def is_recorded(self) -> bool:
        """Whether that is shown, and not what the cards do now."""
        if not self.has_record or self._recorded is False:
            return False
        awaited = self._pid is not None and self._seen.at is None
        return self._recorded is True or (self.mine is None and not awaited)

    def _find_mine(self) -> None:
        """By the uuid that the run told; before it has, by who holds memory there, then by the card's name."""
        now = self.aozora.clock()
        if not 0 <= now - self._engines_at < OWNERS_EVERY:
            self._engines_at, self._engines = now, card_owners.live_runs(self.run_dir)
            self._pid = card_owners.pid_of(self.run_dir) if self.run_dir is not None else None
        self.mine = None
        if self.state is None or self._pid is None:
            return
        cards, machine, started = self.history.cards, self.state.machine, self.state.started
        if machine is not None and machine.card:
            found = [card for card in cards if card.reading.uuid == machine.card]
        else:
            held = [card for card in cards if card_words.held(card.reading, self._owned(card), "this run")]
            found = [*held, *(card for card in cards if started is not None and card.reading.name == started.device)]
        self.mine = found[0] if found else None

    def _owned(self, card: Card) -> dict[int, str]:
        return card_owners.owners((each.pid for each in card.reading.processes or ()), self._engines)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def offers(self, action: str) -> bool:
        if action in ("next", "all"):
            return len(self.history.cards) > 1 and not self.is_recorded
        return action != "record" or self.has_record

    def action_next(self, by: int) -> None:
        cards = self.history.cards
        if self.card is not None and not self.is_recorded:
            self.place = (cards.index(self.card) + by) % len(cards)
            self._show()

    def action_all(self) -> None:
        self.all = not self.all and len(self.history.cards) > 1
        self._show()
        self.call_after_refresh(self._show)

    def action_record(self) -> None:
        if not self.has_record:
            self.say("There is no run here that told of its card")
            return
        self._recorded = not self.is_recorded
        self.update_keys()
        self._show()

    def action_back(self) -> None:
        self.app.pop_screen()

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        card, recorded = self.card, self.is_recorded
        self.set_class(self.all and not recorded, "-all")
        self.set_class(card is None and not recorded, "-none")
        self._show_title(card)
        self._show_cards()
        self._show_source()
        panel = self.query_one(CardPanel)
        if recorded and self.state is not None:
            panel.show_record(Recorded(self.state))
        elif card is not None and not self.all:
            owned = self._owned(card)
            ours, name = self._ours(card, owned)
            panel.show_card(card, card_words.split(card.reading, ours), owned, name=name)

    def _ours(self, card: Card, owned: Mapping[int, str]) -> tuple[int | None, str]:
        """Bytes, and whose they are called. In a container the driver knows the run by another number, and no process
        of it is found: torch at least knows what it took."""
        watched = self.run_dir is not None
        name = "this run" if watched else "runs"
        ours = card_words.held(card.reading, owned, "this run" if watched else "")
        if ours is None and card is self.mine and self.state is not None and self.state.last_step is not None:
            return self.state.last_step.memory_reserved or None, "torch"
        return ours, name

    def _show_title(self, card: Card | None) -> None:
        run = f"{self.run_dir.name}  " if self.run_dir is not None else ""
        what, version = "cards", ""
        if self.is_recorded:
            what = "its card"
        elif card is not None and not self.all:
            count = len(self.history.cards)
            of = f" of {count}" if count > 1 else ""
            what = card_words.title(card.reading).replace("  ", f"{of}  ", 1)
            version = f"  driver {printable(card.reading.driver_version)}" if card.reading.driver_version else ""
        room = max(self.size.width - len(what) - len(version) - 2, 12)
        self.set_title((cut(run, room), "bold"), f"{what}{version}")

    def _show_cards(self) -> None:
        """The list, where there are several."""
        cards, listed = self.history.cards, self.query_one("#cards", Static)
        listed.display = len(cards) > 1 and not self.is_recorded
        if not listed.display or self.card is None:
            return
        most = max(self.size.height - 5, 1) if self.all else LISTED_TALL if self.size.height >= 32 else LISTED
        rows = card_lines.overview(cards, cards.index(self.card), self.mine, self.size.width - 2, most)
        listed.styles.height = len(rows)
        self.set_line("#cards", Content("\n").join(rows))

    def _show_source(self) -> None:
        """Why nothing is known, or how old it is."""
        text, style = self._source()
        line = self.query_one("#source", Static)
        rows = folded(text, max(self.size.width - 2, 20), indent="") if text else []
        line.display = bool(rows)
        if rows:
            line.styles.height = len(rows)
            self.set_line("#source", Content.styled("\n".join(rows), style))

    def _source(self) -> tuple[str, str]:
        seen = self._seen
        if self.is_recorded and self.state is not None:
            return Recorded(self.state).source(self.aozora.clock(), live=self._lives()), "$foreground 70%"
        if seen.silent > SILENT:
            old = " What stands here is as old." if self.history.cards else ""
            return f"! {card_words.SILENT.format(duration(seen.silent))}{old}", "$warning"
        if seen.at is None:
            return "Asking the driver ...", "$foreground 70%"
        return (seen.why_not or "", "$warning") if not seen.readings else ("", "")

    def _lives(self) -> bool:
        try:
            return self.run_dir is not None and is_live(runs.state_now(self.run_dir))
        except (OSError, ValueError):
            return False

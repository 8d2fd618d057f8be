"""What a selection costs on this machine, and what one layer of it does. For a thread: a forecast takes 20 to 60 ms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from aozora_tui import runs
from aozora_tui.screens.layers_model import Chosen, Node, Trees
from engine.contract import places

if TYPE_CHECKING:
    from engine.contract.budget import Forecast, Forecaster
    from engine.contract.nvml_reading import Reading
    from engine.contract.outlook import Outlook
    from engine.contract.plans import Choice
    from engine.contract.safetensors_header import Header
    from engine.contract.sections import Profile


@dataclass(frozen=True)
class Cost:
    """`card` and `host`: bytes that training the node takes, other choices being equal, under the plan that the whole
    takes. `usable` bytes of the card are the run's; None on the processor, and where nobody knows."""

    card: int
    host: int
    ahead: Outlook
    usable: int | None
    cpu: bool

    @property
    def plan(self) -> str:
        from aozora_tui.cards import none_fits

        return "no plan fits" if none_fits(self.ahead) else self.ahead.cost.choice.plan


class Pricing:
    """Remembers the whole of the last state: a cursor that moves asks for one layer after the other."""

    def __init__(self, trees: Trees, header: Header, read_cards: Callable[[], Sequence[Reading]]) -> None:
        self._trees, self._header, self._read = trees, header, read_cards
        self._known: tuple[Chosen, Outlook, int | None] | None = None

    def of(self, chosen: Chosen, node: Node) -> Cost:
        ahead, usable = self._whole(chosen)
        choice = ahead.cost.choice
        if node.encoder:
            learn = self._under(replace(chosen, encoders=chosen.encoders | {node.encoder}), choice)
            rest = self._under(replace(chosen, encoders=chosen.encoders - {node.encoder}), choice)
        else:
            learn = self._under(replace(chosen, unet=chosen.unet | node.mask), choice)
            rest = self._under(replace(chosen, unet=chosen.unet & ~node.mask), choice)
        cpu = self._trees.profile.memory.device == "cpu"
        return Cost(learn.device - rest.device, learn.host - rest.host, ahead, usable, cpu)

    def _whole(self, chosen: Chosen) -> tuple[Outlook, int | None]:
        from aozora_tui.cards import at_the_start, cards, usable
        from engine.contract.outlook import look_ahead

        if self._known is None or self._known[0] != chosen:
            profile, readings = self._profile(chosen), self._read()
            emptied, busy = cards(readings, emptied=True), bool(runs.live(places.runs_folder()))
            found = at_the_start(readings, limited=bool(profile.memory.limit), busy=busy)
            ahead = look_ahead(profile, self._forecaster(profile, chosen), found)
            self._known = (chosen, ahead, usable(profile.memory, emptied))
        return self._known[1:]

    def _under(self, chosen: Chosen, choice: Choice) -> Forecast:
        return self._forecaster(self._profile(chosen), chosen).under(choice)

    def _forecaster(self, profile: Profile, chosen: Chosen) -> Forecaster:
        from engine.contract.budget import Forecaster

        return Forecaster(profile, self._trees.unet, self._trees.speller.chosen(chosen.unet), self._header)

    def _profile(self, chosen: Chosen) -> Profile:
        profile = self._trees.profile
        text = msgspec.structs.replace(profile.text_encoders, train=self._trees.written(chosen)["text_encoders.train"])
        return msgspec.structs.replace(profile, text_encoders=text)

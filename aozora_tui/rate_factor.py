"""What the schedule's learning rate is multiplied with by command. No Textual."""

from dataclasses import dataclass, field

from engine.contract.events import Started, Steered


@dataclass
class RateFactor:
    """`apply` in the order of the file. Of the commands only those count that a resume has not gone back behind."""

    _given: list[Steered] = field(default_factory=list)

    @property
    def now(self) -> float:
        return self._given[-1].factor if self._given else 1.0

    def apply(self, event: Started | Steered) -> None:
        if isinstance(event, Steered):
            self._given = [*(given for given in self._given if given.step < event.step), event]
        else:  # what was commanded for later steps the engine comes to again, and says so
            self._given = [given for given in self._given if given.step <= event.step]

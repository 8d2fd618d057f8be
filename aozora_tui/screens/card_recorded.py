"""What a run told of its card, twice a minute while it trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aozora_tui.card_words import Split, split
from aozora_tui.run_state import RunState
from aozora_tui.text import age, duration
from engine.contract.nvml_reading import Reading


class Recorded:
    """`state` must have a machine that tells of a card."""

    def __init__(self, state: RunState) -> None:
        machine = state.machine
        assert machine is not None
        self._state, self._machine = state, machine
        self.reading = Reading(
            index=0,
            uuid=machine.card,
            memory_used=machine.card_used if machine.card_total else None,
            memory_total=machine.card_total or None,
            utilisation=machine.utilisation,
            power=machine.power,
            power_limit=machine.power_limit,
            temperature=machine.temperature,
            slowdown_temperature=machine.temperature_limit,
            throttled=machine.throttled if machine.utilisation is not None else None,
        )

    @property
    def split(self) -> Split | None:
        """Of the memory: what torch took is the run's, but for the driver's own part of it."""
        step = self._state.last_step
        return split(self.reading, (step.memory_reserved or None) if step is not None else None)

    @property
    def amounts(self) -> dict[str, tuple[float | None, float | None]]:
        """For the gauges, of what a run tells."""
        machine = self._machine
        return {
            "use": (machine.utilisation, 100),
            "power": (machine.power, machine.power_limit),
            "heat": (machine.temperature, machine.temperature_limit or 100),
        }

    @property
    def times(self) -> Sequence[float]:
        """Seconds of training."""
        return self._state.history.box.elapsed

    @property
    def values(self) -> Mapping[str, Sequence[float]]:
        box = self._state.history.box
        return {
            "memory_used": box["card_used"],
            **{name: box[name] for name in ("utilisation", "power", "temperature")},
        }

    @property
    def x_range(self) -> tuple[float, float]:
        """Of the whole run."""
        times = self.times
        return (0.0, max(times[-1] if len(times) else 0.0, 60.0))

    @property
    def tops(self) -> dict[str, float | None]:
        return {"memory_used": self._machine.card_total or None, "power": self._machine.power_limit}

    def source(self, now: float, *, live: bool) -> str:
        """Of when it is, and of how long."""
        since = age(now - self._machine.time)
        when = "just now" if since == "now" else f"{since} ago"
        whole = f"the curves are of {duration(self.x_range[1])} of training"
        return f"As the run told {when}{'' if live else ', before it ended'}; {whole}."

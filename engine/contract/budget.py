"""What a profile will cost under a plan: device memory, host memory and disk. Bytes; a forecast, not a measurement.
What of it was measured stands in `calibration`."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from engine.contract import activations, calibration
from engine.contract.budget_stages import DEEPEST, DEEPEST_GROUPED, together, unit_sizes, widest_pair
from engine.contract.layers import Layer
from engine.contract.learning_cost import (
    checkpoint_bytes,
    export_bytes,
    host_bytes,
    learning_of,
    resting_bytes,
    state_bytes,
    update_bytes,
    weight_bytes,
)
from engine.contract.plans import PLAIN, Choice, as_written, within
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile

GIB = calibration.GIB
# SDXL's VAE in fp32 and one 512-pixel tile on its way through it.
PREVIEW_BYTES = 1.06 * GIB


@dataclass(frozen=True)
class Forecast:
    """Under `choice`. Device parts sum to `device`; `activations` is the most that comes and goes.
    `checkpoint` is one resumable checkpoint, `export` all that is finished."""

    trained: int
    total: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    overhead: int
    host: int
    checkpoint: int
    export: int
    disk: int
    choice: Choice = PLAIN

    @property
    def device(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.overhead


@dataclass(frozen=True)
class _Resident:
    """Bytes of weights and of gradient sums on the device, and `host` memory beside what the plain plan has. In an
    update `visiting` of them come for each element of a tensor, to memory that is in part `lent`."""

    weights: int
    sums: int
    host: int = 0
    visiting: int = 0
    lent: int = 0


class Forecaster:
    """Of one profile under any plan. `root` is the UNet of the base checkpoint that `header` lists, `trained` what of
    it learns; text encoders count where they learn, for only then they stay on the device."""

    def __init__(self, profile: Profile, root: Layer, trained: AbstractSet[str], header: Header) -> None:
        self._profile, self._root, self._trained = profile, root, trained
        self.learning = learning_of(profile, root, trained, header)
        self._export = export_bytes(profile, header, trained)
        self._size = weight_bytes(profile)
        self._staged: dict[bool, _Resident] = {}  # by whether there are groups
        self.pixels = profile.data.resolution**2 * profile.train.batch_size / 1024**2  # pictures of 1024 x 1024

    @cached_property
    def _width(self) -> float:
        """In SDXL's; activations are as wide, and a small model's VAE is small too."""
        return activations.width(self._root) / activations.SDXL_WIDTH

    @cached_property
    def blocks(self) -> list[activations.Block]:
        return activations.blocks(self._root)

    @property
    def waiting(self) -> int:
        """Bytes of a step's activations that wait between the units of stage-major, and may cross the link."""
        return round(calibration.WAITING * self._pictures)

    @property
    def _pictures(self) -> float:
        """Of a step, as many of 1024 x 1024 in bf16."""
        return self.pixels * self._profile.train.accumulate * self._size / 2

    def under(self, choice: Choice) -> Forecast:
        profile, learning = self._profile, self.learning
        choice = within(choice, profile.train.accumulate)
        resident = self._resident(choice)
        # Three things never happen at once: the backward pass, the update of the widest tensor, a preview's decoding.
        preview = PREVIEW_BYTES * self._width if profile.preview.prompts else 0
        beside = max(update_bytes(profile, learning), preview)
        checkpoint = checkpoint_bytes(profile, learning)
        kept = profile.save.keep + 1  # the new one is verified before the oldest goes
        return Forecast(
            trained=learning.parameters,
            total=learning.total,
            weights=resident.weights,
            gradients=resident.sums,
            optimizer=state_bytes(profile, learning) + self._places(resident),
            activations=round(max(self._passes(choice) + choice.staying, beside)),
            overhead=self._overhead(choice) if profile.memory.device != "cpu" else 0,
            host=host_bytes(profile, learning) + resident.host,
            checkpoint=checkpoint,
            export=self._export,
            disk=kept * checkpoint + self._export,
            choice=choice,
        )

    def _resident(self, choice: Choice) -> _Resident:
        if choice.plan == "plain" or self._profile.memory.device == "cpu":  # where nothing moves
            # fp32 sums of the window, and the widest tensor's own gradient beside them in the backward pass.
            sums = 4 * self.learning.parameters + self._size * self.learning.widest
            return _Resident(self._size * self.learning.held, sums)
        if choice.plan != "stage-major":
            return self._ring
        grouped = choice.group > 1
        if grouped not in self._staged:
            self._staged[grouped] = self._stages(DEEPEST_GROUPED if grouped else DEEPEST)
        return self._staged[grouped]

    def _stages(self, deepest: int) -> _Resident:
        learning, size = self.learning, self._size
        room = calibration.WAITING_ROOM if deepest == DEEPEST else calibration.WAITING_ROOM_GROUPED
        sizes = list(zip(self._root.tensors, self._root.sizes, strict=True))
        region = widest_pair(unit_sizes(sizes, deepest=deepest))
        sums = widest_pair(unit_sizes(sizes, self._trained, deepest=deepest))
        unet = sum(elements for name, elements in sizes if name in self._trained)
        return _Resident(
            weights=size * (learning.held + region - self._root.parameters),
            sums=4 * (learning.parameters - unet + sums),
            host=size * self._root.parameters + 4 * unet + round(room * self._pictures),
            visiting=size + 4,
            lent=size * region + 4 * sums,
        )

    @cached_property
    def _ring(self) -> _Resident:
        learning = self.learning
        hosted = [elements for elements in learning.sizes if elements >= calibration.RING_SMALL]
        largest = 4 * max(hosted, default=0)
        slots = calibration.RING_SLOTS * min(calibration.RING_SLOT_BYTES, largest)
        return _Resident(
            weights=self._size * learning.held,
            sums=max(slots, 4 * self._pair) + 4 * (learning.parameters - sum(hosted)),
            host=4 * sum(hosted),
        )

    @cached_property
    def _swept(self) -> list[int]:
        """Elements of each that learns, in the order of a sweep."""
        unet = [size for name, size in zip(self._root.tensors, self._root.sizes, strict=True) if name in self._trained]
        return unet + list(self.learning.sizes[len(unet) :])

    @cached_property
    def _pair(self) -> int:
        """Elements of the two widest that follow each other, of the sums that visit the device one by one."""
        return _widest([size for size in self._swept if size >= calibration.RING_SMALL])

    @cached_property
    def _groups(self) -> int:
        """Of the two widest groups of neighbours: so masters and moments visit it."""
        return _widest(together(self._swept, calibration.TOGETHER))

    def _places(self, resident: _Resident) -> int:
        """For what visits in an update, as far as nothing lends its memory meanwhile."""
        if self._profile.memory.device == "cpu":
            return 0
        master, moments = resting_bytes(self._profile)
        # Who has memory to lend, as stage-major, lends it to weights, to sums and to the halves of a split master.
        own, lent = (master, 0) if master > 2 else (0, master)
        return (moments + own) * self._groups + max(0, (lent + resident.visiting) * self._groups - resident.lent)

    @staticmethod
    def _overhead(choice: Choice) -> int:
        together = choice.group - 1 if choice.plan == "stage-major" else 0
        return round(calibration.OVERHEAD[choice.plan] + together * calibration.OVERHEAD_GROUP)

    def _passes(self, choice: Choice) -> float:
        """Activations; with compiled blocks of two passes: one that is tried step by step, beside those recorded."""
        tried = self._profile.memory.compile and self._profile.memory.graphs and self._profile.memory.device != "cpu"
        return self._activations(choice) * (2 if tried else 1)

    def _activations(self, choice: Choice) -> float:
        picture = self.pixels * self._size / 2 * self._width
        match choice.plan:
            case "plain":
                every = calibration.CHECKPOINTED_ACTIVATIONS if choice.checkpointing else calibration.KEPT_ACTIVATIONS
                return every * picture
            case "stage-major":
                grouped = choice.group > 1
                unit = calibration.UNIT_ACTIVATIONS_GROUPED if grouped else calibration.UNIT_ACTIVATIONS
                return (unit + calibration.UNIT_BUFFERS) * choice.group * picture + calibration.UNIT_SLACK
            case _:
                kept = activations.kept(self.blocks, choice.keep) * self._size * self.pixels
                # Gradients wait where the kept activations are gone again.
                pending = min(calibration.RING_PENDING, self._size * self.learning.parameters)
                return calibration.RING_ACTIVATIONS * picture + max(kept, pending)


def _widest(sizes: Sequence[int]) -> int:
    """Of one, or of two that follow each other."""
    return max([*sizes, *map(sum, pairwise(sizes))], default=0)


def forecast(
    profile: Profile, root: Layer, trained: AbstractSet[str], header: Header, choice: Choice | None = None
) -> Forecast:
    """Under `choice`, or as far as it is written."""
    return Forecaster(profile, root, trained, header).under(choice or as_written(profile))

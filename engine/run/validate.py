"""The loss on pictures that are held out: what tells learning from learning by heart."""

import math
import time

import msgspec
import torch
from torch import Tensor

from engine.contract import events
from engine.contract.items import Item
from engine.contract.sections import Objective as Settings
from engine.contract.seeding import derive
from engine.data.cache import CacheError
from engine.memory.plan import Embedded, MicroBatch, Plan
from engine.model.conditioner import Conditioner
from engine.objective.objective import Objective
from engine.run.conditions import Encoded
from engine.run.dataset import Dataset
from engine.run.session import Session

SAMPLES_EACH = 4  # of a picture
TOGETHER = 2  # samples in a batch, as many as a preview with guidance has
# Of no run: every run asks the same, so that runs can be compared.
SEED = derive(0, "validation", 0)


class Validator:
    """Asks the network the same questions each time: `SAMPLES_EACH` timesteps a picture, which together are spread over
    the density that the run draws from, each with a noise of its own. The loss is the run's, weights included. Nothing
    of it moves the training."""

    def __init__(
        self, session: Session, settings: Settings, dataset: Dataset, *, conditioner: Conditioner | None = None
    ) -> None:
        self._session = session
        self._dataset = dataset
        self._conditioner = conditioner
        # Spread evenly, and what is noised for the sake of learning alone is left out.
        calm = msgspec.structs.replace(settings, stratified=True, ip_noise_gamma=0.0)
        window = max(SAMPLES_EACH * len(dataset.held_out), 1)
        self._objective = Objective(calm, SEED, window=window)

    @torch.no_grad()
    def measure(self, plan: Plan, step: int) -> None:
        """What cannot be measured is a warning: the training goes on. Raises StopRequested between two answers."""
        pictures = self._dataset.held_out
        if not pictures:
            return
        self._session.phase("validate", step)
        began = time.monotonic()
        try:
            with plan.shown():
                losses = self._losses(plan, pictures)
        except torch.OutOfMemoryError:
            self._fail(step, "the card has too little memory for it")
            return
        except CacheError as error:
            self._fail(step, str(error))
            return
        finally:
            if plan.device.type == "cuda":
                torch.cuda.empty_cache()  # what shapes of no training batch have left
        bad = next((index for index, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if bad is not None:
            self._fail(step, f"the loss on {pictures[bad // SAMPLES_EACH].name} is not finite")
            return
        self._session.emit(
            events.Validated(
                step=step,
                loss=math.fsum(losses) / len(losses),
                pictures=len(pictures),
                samples=len(losses),
                seconds=time.monotonic() - began,
            )
        )

    def _losses(self, plan: Plan, pictures: tuple[Item, ...]) -> list[float]:
        """In the order of the pictures. A host read, at the end."""
        report = self._session.progress("validate", "pictures")
        encoded = Encoded(self._dataset, self._conditioner, plan.device)
        answers: list[Tensor] = []
        for index, item in enumerate(pictures):
            latents = self._dataset.cache.load_latents(item)[None].to(plan.device)
            context, pooled = encoded.of(item)
            positions = range(SAMPLES_EACH * index, SAMPLES_EACH * (index + 1))
            for start in range(0, SAMPLES_EACH, TOGETHER):
                self._session.check()
                some = positions[start : start + TOGETHER]
                answers.append(self._answer(plan, item, some, latents, context, pooled))
            report(index + 1, len(pictures))
        host: list[float] = torch.cat(answers).tolist()
        return host

    def _answer(
        self, plan: Plan, item: Item, positions: range, latents: Tensor, context: Tensor, pooled: Tensor
    ) -> Tensor:
        """Losses (B,) of one picture at `positions`; `latents` (1, 4, h, w), `context` (77n, C), `pooled` (P,)."""
        count = len(positions)
        question = self._objective.ask(latents.expand(count, -1, -1, -1), positions)
        micro = MicroBatch(
            noisy_latents=question.noisy_latents,
            network_time=question.network_time,
            condition=Embedded(context.expand(count, -1, -1), pooled.expand(count, -1)),
            time_ids=torch.tensor([item.time_ids] * count, dtype=torch.float32, device=plan.device),
        )
        return question.losses(plan.predict(micro).float())

    def _fail(self, step: int, why: str) -> None:
        text = f"the validation of step {step} could not be made: {why}"
        self._session.warn("validation-failed", text, "The training goes on.")

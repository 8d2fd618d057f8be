"""Previews: what the model draws now, with the profile's prompts, at fixed noise."""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from engine.contract import events
from engine.contract.buckets import time_ids
from engine.contract.sections import Profile
from engine.data.batches import equal_lengths
from engine.memory.plan import Embedded, MicroBatch
from engine.model import components, latents
from engine.model.conditioner import Conditioner
from engine.model.single_file import Checkpoint
from engine.objective.randomness import noise_of
from engine.objective.sampler import sample, sampler_timesteps
from engine.objective.target import path_of
from engine.run.conditions import Encoded
from engine.run.dataset import Dataset, Prompt
from engine.run.session import Session

Predict = Callable[[MicroBatch], Tensor]
Shown = Callable[[], AbstractContextManager[object]]


class Previewer:
    """Draws every prompt of the profile. The noise of a prompt is the same at every step, so that pictures can be
    compared, and comes from its own generator: a preview never moves the training. Prompts are encoded by the
    `conditioner` as it is then, if text encoders learn."""

    def __init__(
        self,
        session: Session,
        profile: Profile,
        checkpoint: Checkpoint,
        dataset: Dataset,
        device: torch.device,
        *,
        conditioner: Conditioner | None = None,
    ) -> None:
        self._session = session
        self._profile = profile
        self._checkpoint = checkpoint
        self._dataset = dataset
        self._device = device
        self._path = path_of(profile.objective)
        self._previewed = Encoded(dataset, conditioner, device)

    @property
    def wanted(self) -> bool:
        return bool(self._dataset.prompts)

    @torch.no_grad()
    def draw(self, predict: Predict, step: int, shown: Mapping[str, Shown]) -> None:
        """One PNG a prompt into `samples/`, by what `predict` answers inside each of `shown`, which go by the names of
        their weights; of the untouched model only one. Raises StopRequested between sampler steps."""
        if not self.wanted:
            return
        self._session.phase("preview", step)
        try:
            self._draw_all(predict, step, shown if step else dict(itertools.islice(shown.items(), 1)))
        except torch.OutOfMemoryError:
            text = f"the card has too little memory for the previews of step {step}"
            self._session.warn("preview-failed", text, "The training goes on. Lower preview.width and preview.height.")
        except (OSError, ValueError) as error:  # a disk that refuses, or a picture that is not finite
            text = f"the previews of step {step} could not be made: {error}"
            self._session.warn("preview-failed", text, "The training goes on.")
        finally:
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # what the VAE held is not for the training to keep

    def _draw_all(self, predict: Predict, step: int, shown: Mapping[str, Shown]) -> None:
        session, settings = self._session, self._profile.preview
        report = session.progress("preview", "sampler steps")
        done = itertools.count(1)
        total = settings.sampler_steps * len(self._dataset.prompts) * len(shown)
        drawn: list[tuple[str, int, Prompt, Tensor]] = []
        for weights, entered in shown.items():
            with entered():
                for index, prompt in enumerate(self._dataset.prompts):
                    latent = self._sample(predict, prompt, index, lambda: report(next(done), total))
                    drawn.append((weights, index, prompt, latent))
        vae = components.load_vae(self._checkpoint, self._device, tiled=self._device.type == "cuda")
        for weights, index, prompt, latent in drawn:
            session.check()
            picture = latents.decode_latents(vae, latent)[0]
            suffix = "" if weights == drawn[0][0] else f"-{weights}"
            name = f"step-{step:06d}-{index + 1}{suffix}.png"
            self._keep(picture, prompt, step, name=name, weights=weights if step else "")

    def _sample(self, predict: Predict, prompt: Prompt, index: int, report: Callable[[], None]) -> Tensor:
        """Latents (1, 4, h, w), float32."""
        settings = self._profile.preview
        shape = (4, settings.height // 8, settings.width // 8)
        condition = self._condition(prompt)
        count = len(condition.prompt_embeds)
        size = (settings.width, settings.height)
        ids = torch.tensor([time_ids(size, (0, 0), size)] * count, dtype=torch.float32, device=self._device)

        def answer(noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
            self._session.check()
            micro = MicroBatch(
                noisy_latents=noisy_latents.expand(count, -1, -1, -1),
                network_time=self._path.network_time(timesteps).expand(count),
                condition=condition,
                time_ids=ids,
            )
            answers = predict(micro).float()
            report()
            if count == 1:
                return answers
            negative, positive = answers.chunk(2)
            return negative + settings.guidance * (positive - negative)

        noise = noise_of(settings.seed, [index], shape, stream="preview").to(self._device)
        return sample(self._path, noise, sampler_timesteps(settings.sampler_steps), answer)

    def _condition(self, prompt: Prompt) -> Embedded:
        """The negative first, if guidance needs it."""
        guided = self._profile.preview.guidance != 1
        pairs = [self._previewed.negative()] if guided else []
        pairs.append(self._previewed.of(prompt))
        contexts = equal_lengths([context for context, _ in pairs])
        return Embedded(torch.stack(contexts), torch.stack([pooled for _, pooled in pairs]))

    def _keep(self, picture: Tensor, prompt: Prompt, step: int, *, name: str, weights: str) -> None:
        """`weights`: which drew it, where that can be told apart."""
        settings = self._profile.preview
        facts = {
            "run": self._session.run.name,
            "step": step,
            "prompt": prompt.caption,
            "negative": settings.negative,
            "null_condition": self._profile.objective.null_condition,
            "seed": settings.seed,
            "sampler": "DDIM",
            "sampler_steps": settings.sampler_steps,
            "guidance": settings.guidance,
            "width": settings.width,
            "height": settings.height,
        }
        if weights:
            facts["weights"] = weights
        path = self._session.run.samples / name
        write_png(path, picture, facts)
        relative = str(path.relative_to(self._session.run.path))
        self._session.emit(events.Sampled(step=step, path=relative, prompt=prompt.caption, settings=facts))


def previewed_weights(profile: Profile) -> tuple[str, ...]:
    """The names of those that draw, the profile's own first; "" where there is no running average to tell apart."""
    if not profile.ema.decay:
        return ("",)
    named = ("average", "latest") if profile.ema.previews else ("latest", "average")
    return named if profile.ema.previews_of_both else named[:1]


def write_png(path: Path, picture: Tensor, facts: dict[str, Any]) -> None:
    """(3, H, W) in [-1, 1] as a PNG that carries `facts` in its own text; appears whole."""
    pixels = ((picture.permute(1, 2, 0).cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    text = PngInfo()
    text.add_itxt("aozora", json.dumps(facts))
    text.add_text("Creation Time", time.strftime("%Y-%m-%dT%H:%M:%S"))
    partial = path.with_name(f".{path.name}.tmp")
    Image.fromarray(np.ascontiguousarray(pixels)).save(partial, format="PNG", pnginfo=text)
    partial.replace(path)

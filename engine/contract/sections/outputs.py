"""What comes out of a run."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import about


class Validation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The loss on pictures that are not trained on."""

    pictures: Annotated[
        int,
        about(
            "Pictures",
            "So many are held out: never trained on, and the loss on them is measured; 0: none. The same in every run.",
            "pictures",
            ge=0,
            le=10_000,
        ),
    ] = 0
    every: Annotated[
        int, about("Every", "Steps between looks; 0: only at the start and the end.", "steps", ge=0, le=10_000_000)
    ] = 100


class Preview(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures drawn by the model while it trains."""

    prompts: Annotated[tuple[str, ...], about("Prompts", "One picture each; none, no previews.")] = ()
    negative: Annotated[str, about("Negative prompt", "What guidance steers away from.")] = ""
    every: Annotated[
        int, about("Every", "Steps between previews; 0: only at the start and the end.", "steps", ge=0, le=10_000_000)
    ] = 0
    at_start: Annotated[bool, about("At the start", "Draw the untouched model first, to compare with.")] = True
    at_end: Annotated[bool, about("At the end", "Draw the finished model.")] = True
    width: Annotated[
        int, about("Width", "Use a size the model was trained at.", "pixels", ge=64, le=4096, multiple_of=32)
    ] = 1024
    height: Annotated[
        int, about("Height", "Use a size the model was trained at.", "pixels", ge=64, le=4096, multiple_of=32)
    ] = 1024
    sampler_steps: Annotated[
        int, about("Sampler steps", "DDIM steps a picture, evenly spaced down from pure noise.", "steps", ge=1, le=200)
    ] = 28
    guidance: Annotated[float, about("Guidance", "Classifier-free guidance scale; 1 is none.", ge=1, le=30)] = 4.5
    seed: Annotated[
        int, about("Seed", "The same noise in every preview, so that pictures can be compared.", ge=0, le=2**31)
    ] = 7


class Save(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept."""

    every: Annotated[
        int,
        about(
            "Checkpoint every",
            "Steps between resumable checkpoints; 0: only when stopping and at the end.",
            "steps",
            ge=0,
            le=10_000_000,
        ),
    ] = 100
    keep: Annotated[
        int,
        about(
            "Keep",
            "How many checkpoints stay; older ones go only after the new one verified.",
            "checkpoints",
            ge=1,
            le=1000,
        ),
    ] = 2
    export: Annotated[bool, about("Export", "Write the finished model for other programs at the end.")] = True
    export_format: Annotated[
        Literal["checkpoint", "unet", "diffusers"],
        about(
            "Export format",
            "checkpoint: one whole file, for every program. unet: one file, the UNet alone. diffusers: a folder.",
        ),
    ] = "checkpoint"
    export_precision: Annotated[
        Literal["same", "bf16", "fp16", "fp32"],
        about(
            "Export precision", "Of the trained tensors. same, and all the others: as the base checkpoint stores them."
        ),
    ] = "same"

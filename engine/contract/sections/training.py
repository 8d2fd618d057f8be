"""How long it learns, what of the network, and where things live meanwhile."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import about


class Train(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long, how much at once."""

    steps: Annotated[int, about("Steps", "Optimizer updates in the whole run.", "updates", ge=1, le=10_000_000)] = 1000
    batch_size: Annotated[
        int, about("Batch size", "Pictures computed together in a micro-batch.", "pictures", ge=1, le=256)
    ] = 1
    accumulate: Annotated[
        int,
        about("Accumulation", "Micro-batches summed, in fp32, before each update.", "micro-batches", ge=1, le=4096),
    ] = 16
    max_grad_norm: Annotated[
        float,
        about(
            "Gradient clip", "Longer gradients (global L2 norm) are scaled down to this; 0 does not clip.", ge=0, le=1e6
        ),
    ] = 1.0
    damping: Annotated[
        float,
        about(
            "Spike damping",
            "Steps of unusually high loss move less: above this percentile of the last 100 losses, as 95, the gradient "
            "is scaled down to it. 0: off.",
            "percentile",
            ge=0,
            le=100,
        ),
    ] = 0.0
    max_skipped: Annotated[
        int,
        about(
            "Skipped steps",
            "How many steps in a row may fail (a gradient that is no number) before the run stops; they change "
            "nothing.",
            "steps",
            ge=1,
            le=1000,
        ),
    ] = 3
    seed: Annotated[
        int,
        about(
            "Seed",
            "Order, noise, timesteps and dropout are functions of it. 0 is a seed like any other.",
            ge=0,
            le=2**31,
        ),
    ] = 42


class Layers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tensors of the UNet learn; the others are frozen and cost no gradient, state or time."""

    train: Annotated[
        tuple[str, ...],
        about(
            "Trained",
            "Patterns over tensor names: `*` everything, `mid_block.*` a block, `attn2` whatever has that part, "
            "`depth:2` or `depth:0-1` the blocks after so many halvings of the picture.",
            kind="pattern",
            min_length=1,
            examples=[["attn1", "mid_block.*"]],
        ),
    ] = ("*",)
    freeze: Annotated[
        tuple[str, ...],
        about(
            "Frozen",
            "Patterns of what shall not learn: it is taken out again of what `train` names.",
            kind="pattern",
            examples=[["norm1", "time_embedding"]],
        ),
    ] = ()


class Memory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where weights, gradients and activations live."""

    device: Annotated[
        str,
        about(
            "Device",
            "auto takes the first NVIDIA card, else the processor.",
            pattern=r"^(auto|cpu|cuda(:\d+)?)$",
            examples=["auto, cpu, cuda or cuda:1"],
        ),
    ] = "auto"
    plan: Annotated[
        Literal["auto", "plain", "fast", "resident", "stage-major"],
        about(
            "Plan",
            "plain: all on the card. fast, resident: gradient sums on the host; fast keeps activations. stage-major: "
            "part after part of the UNet, least memory. auto: the fastest that fits, or a simpler one within 15 %.",
        ),
    ] = "auto"
    limit: Annotated[
        float,
        about(
            "Limit",
            "What the run may use of the card in all. 0: what is free when it starts, less half a GiB.",
            "GiB",
            ge=0,
            le=1024,
        ),
    ] = 0.0
    keep: Annotated[
        int,
        about(
            "Kept blocks",
            "Transformer blocks that keep their activations in fast, of SDXL's 70. 0: as many as fit, chosen at the "
            "start.",
            "blocks",
            ge=0,
            le=1024,
        ),
    ] = 0
    group: Annotated[
        int,
        about(
            "Group",
            "Micro-batches of one shape that stage-major computes together: faster, and more memory. 0: as many as "
            "fit, up to 8, chosen at the start.",
            "micro-batches",
            ge=0,
            le=64,
        ),
    ] = 0
    graphs: Annotated[
        bool,
        about(
            "Graphs",
            "Record the passes of frequent shapes as CUDA graphs and replay them: far faster on fast cards.",
        ),
    ] = True
    compile: Annotated[
        bool,
        about(
            "Compile",
            "Fuse the transformer blocks' small kernels by torch.compile: a few percent faster after a minute or two "
            "at the start. Needs a C compiler, Python's headers, and twice the memory for activations.",
        ),
    ] = False
    threads: Annotated[
        int,
        about(
            "Processor threads", "What torch may use of the processor; 0 leaves it to torch.", "threads", ge=0, le=1024
        ),
    ] = 0
    checkpointing: Annotated[
        bool,
        about(
            "Checkpointing",
            "Recompute activations in the backward pass of plain: far less memory, a quarter more time. Under auto it "
            "may be done, if it has to.",
        ),
    ] = True

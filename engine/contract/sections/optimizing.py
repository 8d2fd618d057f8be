"""How an update is made of a gradient: the optimizer, its rate over the run, and what is kept beside the weights."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import Point, about

MasterKind = Literal["split", "fp32", "stochastic", "nearest"]
# What a package's optimizer may be given in a file.
Argument = bool | int | float | str | list[float]


class Optimizer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rule, its rate, and the precision in which weights are kept."""

    kind: Annotated[
        Literal["adafactor", "adamw", "imported"],
        about(
            "Optimizer",
            "adafactor: arXiv 1804.04235, least memory; adamw: arXiv 1711.05101, its moments in host memory; imported: "
            "one of an installed package.",
        ),
    ] = "adafactor"
    learning_rate: Annotated[float, about("Learning rate", "The peak; the schedule scales it.", gt=0, le=1)] = 1e-6
    rates: Annotated[
        dict[str, Annotated[float, about("Factor", "On the learning rate.", ge=0, le=1000)]],
        about(
            "Rates by layer",
            "Factors on the learning rate by pattern, as in layers.train; where several match, they multiply. 0 rests.",
            kind="pattern",
        ),
    ] = {}
    master: Annotated[
        MasterKind,
        about(
            "Master weights",
            "Beside bf16 weights, in host memory: split 2 bytes a parameter, exactly fp32; fp32 4 bytes; stochastic "
            "nothing, rounds by chance, noisy; nearest nothing, and small updates are lost.",
        ),
    ] = "split"
    weight_decay: Annotated[float, about("Weight decay", "Decoupled, times the learning rate.", ge=0, le=1)] = 0.0
    decay_exponent: Annotated[
        float, about("Decay exponent", "Second moments forget with 1 - step^-this.", gt=0, le=1)
    ] = 0.8
    clip_threshold: Annotated[
        float,
        about("Update clip", "Greatest root mean square of one tensor's update, in learning rates.", gt=0, le=100),
    ] = 1.0
    momentum: Annotated[
        float,
        about("Momentum", "Share of the last update that adafactor keeps, in bf16 on the host; 0: none.", ge=0, lt=1),
    ] = 0.0
    beta1: Annotated[float, about("Beta 1", "Share of the first moment that is kept.", ge=0, lt=1)] = 0.9
    beta2: Annotated[float, about("Beta 2", "Share of the second moment that is kept.", ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, about("Epsilon", "Added to the root of the second moment.", gt=0, le=1)] = 1e-8
    moments: Annotated[
        Literal["fp32", "bf16"],
        about("Moments", "Both in host memory: fp32 8 bytes a parameter; bf16, rounded by chance, 4."),
    ] = "fp32"
    import_path: Annotated[
        str,
        about(
            "Import path",
            "Of a class that works like torch.optim's, in a package that is installed beside this program.",
            examples=["prodigyopt.Prodigy"],
            pattern=r"^$|^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
        ),
    ] = ""
    arguments: Annotated[
        dict[str, Argument],
        about("Its arguments", "Given to the class by name; lists stand for tuples. learning_rate gives its lr."),
    ] = {}


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The learning rate over the run."""

    shape: Annotated[
        Literal["cosine", "linear", "constant", "polynomial", "restarts", "wsd", "rex", "curve"],
        about(
            "Shape",
            "How the rate falls after the warm-up. restarts: several cosines; wsd: level, then a straight fall at the "
            "end; rex: arXiv 2107.04197; curve: drawn.",
        ),
    ] = "cosine"
    warmup: Annotated[
        float, about("Warm-up", "Share of the steps in which the rate rises to its peak.", "share", ge=0, le=0.9)
    ] = 0.1
    warmup_steps: Annotated[
        int,
        about(
            "Warm-up steps", "The warm-up in steps, instead of a share; 0: as a share.", "steps", ge=0, le=10_000_000
        ),
    ] = 0
    minimum: Annotated[float, about("Minimum", "Where the fall ends, as a share of the peak.", "share", ge=0, le=1)] = (
        0.0
    )
    power: Annotated[float, about("Power", "Of the polynomial: 1 falls straight.", gt=0, le=20)] = 2.0
    cycles: Annotated[int, about("Cycles", "How often the rate falls.", ge=1, le=1000)] = 4
    decay: Annotated[
        float, about("Decay", "Share of the steps, at the end, in which wsd falls.", "share", gt=0, le=1)
    ] = 0.2
    curve: Annotated[
        tuple[Point, ...],
        about("Curve", "Of the rate as a share of the peak, drawn: [share of the run from 0 to 1, rate] points."),
    ] = ()


class TextEncoders(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training CLIP beside the UNet: captions are then encoded in every step, not cached."""

    train: Annotated[
        Literal["none", "first", "second", "both"],
        about("Trained", "first: CLIP-L; second: OpenCLIP bigG."),
    ] = "none"
    rate: Annotated[
        float, about("First's rate", "Factor on the learning rate for the first encoder.", ge=0, le=100)
    ] = 0.1
    rate_2: Annotated[
        float, about("Second's rate", "Factor on the learning rate for the second encoder.", ge=0, le=100)
    ] = 0.1
    token_embedding: Annotated[
        Literal["frozen", "row_wise"],
        about("Token embedding", "row_wise: each token has a second moment and a clip of its own, and rests unread."),
    ] = "frozen"
    element_clip: Annotated[
        float, about("Element clip", "Greatest element of an update, in learning rates.", gt=0, le=1000)
    ] = 5.0
    stop_after: Annotated[
        int, about("Stop after", "Step after which they rest; 0: never.", "steps", ge=0, le=10_000_000)
    ] = 0


class Ema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A running average of the trained weights, in fp32 in host memory."""

    decay: Annotated[
        float, about("Decay", "Share of the average that a step keeps, as 0.999; 0: no average.", ge=0, lt=1)
    ] = 0.0
    warmup: Annotated[
        bool, about("Warm-up", "Keep less in the beginning, (1 + step) / (10 + step), so that the base is forgotten.")
    ] = True
    previews: Annotated[bool, about("Previews", "Draw them with the average.")] = True
    export: Annotated[
        Literal["average", "latest", "both"], about("Export", "Which weights the finished file holds.")
    ] = "average"

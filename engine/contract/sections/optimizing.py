"""How an update is made of a gradient: the optimizer, its rate over the run, and what is kept beside the weights."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import OVER_THE_RUN, Point, about

MasterKind = Literal["split", "fp32", "stochastic", "nearest"]
# What a package's optimizer may be given in a file.
Argument = bool | int | float | str | list[float]
_KEPT = "Write a share below 1, as {}; 0 is none."


class Optimizer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rule, its rate, and the precision in which weights are kept."""

    kind: Annotated[
        Literal["adafactor", "adamw", "imported"],
        about(
            "Optimizer",
            "adafactor: arXiv 1804.04235, least memory; adamw: arXiv 1711.05101, its moments in host memory; imported: "
            "one of an installed package, as Prodigy.",
            remedy='For one of a package: kind = "imported" and import_path = "prodigyopt.Prodigy".',
        ),
    ] = "adafactor"
    learning_rate: Annotated[
        float,
        about(
            "Learning rate",
            "How far a step moves a weight, at the peak; the schedule makes it less. About 1e-6 for adafactor and "
            "adamw; Prodigy wants 1.",
            gt=0,
            le=1,
            remedy="Write a number above 0 and at most 1, as 1e-6.",
        ),
    ] = 1e-6
    rates: Annotated[
        dict[str, Annotated[float, about("Factor", "On the learning rate.", ge=0, le=1000)]],
        about(
            "Rates by layer",
            "A factor on the learning rate for each pattern, written as in layers.train: 0.5 halves it, 0 stops these "
            "layers. Where several match they multiply, also with text_encoders.rate.",
            kind="pattern",
            examples=[{"mid_block.*": 0.5}],
        ),
    ] = {}
    master: Annotated[
        MasterKind,
        about(
            "Master weights",
            "Finer weights beside those in bf16, in host memory. split: 2 bytes a parameter, exactly fp32; fp32: 4 "
            "bytes; stochastic: none, rounds by chance, noisy; nearest: none, loses small updates.",
        ),
    ] = "split"
    weight_decay: Annotated[
        float,
        about(
            "Weight decay",
            "Pulls weights towards 0: each step takes this times the learning rate of every weight. 0: off.",
            ge=0,
            le=1,
        ),
    ] = 0.0
    decay_exponent: Annotated[
        float,
        about(
            "Decay exponent",
            "How fast adafactor forgets how large gradients were: higher remembers longer. Step n keeps the share "
            "1 - 1/n^this; leave it unless you know why.",
            gt=0,
            le=1,
        ),
    ] = 0.8
    clip_threshold: Annotated[
        float,
        about(
            "Update clip",
            "The most that adafactor moves the weights of a tensor in a step, on average (RMS). 1 means: as far as the "
            "learning rate.",
            gt=0,
            le=100,
        ),
    ] = 1.0
    momentum: Annotated[
        float,
        about(
            "Momentum",
            "How much of its last direction adafactor keeps, as 0.9: steadier steps for 2 bytes of host memory a "
            "parameter. 0: none.",
            ge=0,
            lt=1,
            remedy=_KEPT.format(0.9),
        ),
    ] = 0.0
    beta1: Annotated[
        float,
        about(
            "Beta 1",
            "How much of its last direction adamw keeps in a step: 0.9 averages over about 10 steps.",
            ge=0,
            lt=1,
            remedy=_KEPT.format(0.9),
        ),
    ] = 0.9
    beta2: Annotated[
        float,
        about(
            "Beta 2",
            "How much adamw keeps of how large gradients were: 0.999 averages over about 1000 steps; for a short run, "
            "0.99.",
            ge=0,
            lt=1,
            remedy=_KEPT.format(0.999),
        ),
    ] = 0.999
    epsilon: Annotated[
        float,
        about(
            "Epsilon",
            "Keeps adamw from dividing by 0: weights whose gradients are far smaller than this hardly move.",
            gt=0,
            le=1,
        ),
    ] = 1e-8
    moments: Annotated[
        Literal["fp32", "bf16"],
        about("Moments", "What adamw remembers, in host memory: fp32 8 bytes a parameter; bf16, rounded by chance, 4."),
    ] = "fp32"
    import_path: Annotated[
        str,
        about(
            "Import path",
            "The package and class of an optimizer that works like torch.optim's; install the package beside this "
            "program.",
            examples=["prodigyopt.Prodigy"],
            pattern=r"^$|^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
            remedy='Write package and class, as "prodigyopt.Prodigy".',
        ),
    ] = ""
    arguments: Annotated[
        dict[str, Argument],
        about(
            "Its arguments",
            "What its documentation lets you set, by name. Write a list where that says tuple; learning_rate gives "
            "its lr.",
            examples=[{"betas": [0.9, 0.99]}],
        ),
    ] = {}


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The learning rate over the run."""

    shape: Annotated[
        Literal["cosine", "linear", "constant", "polynomial", "restarts", "wsd", "rex", "curve"],
        about(
            "Shape",
            "How the rate falls after the warm-up. restarts: several cosines; wsd (warm-up, stable, decay): level, "
            "then straight down at the end; rex: slowly, then fast (arXiv 2107.04197); curve: drawn.",
            aliases={
                "warmupstabledecay": "wsd",
                "trapezoidal": "wsd",
                "cosinewithrestarts": "restarts",
                "cosinewithhardrestarts": "restarts",
                "cosineannealing": "cosine",
                "cosinewithminlr": "cosine",
                "constantwithwarmup": "constant",
                "poly": "polynomial",
            },
        ),
    ] = "cosine"
    warmup: Annotated[
        float,
        about(
            "Warm-up",
            "Share of the steps, at the start, in which the rate rises to its peak: 0.1 is a tenth.",
            "share",
            ge=0,
            le=0.9,
        ),
    ] = 0.1
    warmup_steps: Annotated[
        int,
        about(
            "Warm-up steps",
            "The warm-up in steps; above 0 it counts instead of the share.",
            "steps",
            ge=0,
            le=10_000_000,
        ),
    ] = 0
    minimum: Annotated[
        float,
        about("Minimum", "Where the fall ends, as a share of the peak: 0.1 of 1e-6 is 1e-7.", "share", ge=0, le=1),
    ] = 0.0
    power: Annotated[
        float, about("Power", "Of the polynomial: 1 falls straight, higher falls faster at first.", gt=0, le=20)
    ] = 2.0
    cycles: Annotated[int, about("Cycles", "How often the rate falls from its peak.", ge=1, le=1000)] = 4
    decay: Annotated[
        float,
        about(
            "Final fall",
            "Share of the steps, at the end, in which wsd falls: 0.2 is the last fifth.",
            "share",
            gt=0,
            le=1,
        ),
    ] = 0.2
    curve: Annotated[
        tuple[Point, ...],
        about(
            "Curve",
            "The rate as a share of the peak, drawn: points of [share of the run from 0 to 1, rate]; straight between "
            "them. It has no other warm-up.",
            axis=OVER_THE_RUN,
            examples=[[[0, 1.0], [0.5, 0.4]]],
        ),
    ] = ()


class TextEncoders(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training CLIP beside the UNet: captions are then encoded in every step, not cached."""

    train: Annotated[
        Literal["none", "first", "second", "both"],
        about(
            "Trained",
            "Which of SDXL's two text encoders learn. first: CLIP-L, the small one; second: OpenCLIP bigG, the large "
            "one.",
            aliases={
                **dict.fromkeys(("clipl", "te1", "textencoder", "textencoder1", "l", "1"), "first"),
                **dict.fromkeys(("clipg", "bigg", "clipbigg", "openclip", "openclipbigg", "te2"), "second"),
                **dict.fromkeys(("textencoder2", "g", "2"), "second"),
                **dict.fromkeys(("true", "all", "yes"), "both"),
                **dict.fromkeys(("false", "no", "off"), "none"),
            },
        ),
    ] = "none"
    rate: Annotated[
        float,
        about(
            "CLIP-L's rate",
            "A factor on the learning rate for CLIP-L: 0.1 of 1e-6 is 1e-7. Factors of optimizer.rates that match it "
            "multiply with this one.",
            ge=0,
            le=100,
        ),
    ] = 0.1
    rate_2: Annotated[
        float,
        about(
            "bigG's rate",
            "A factor on the learning rate for bigG: 0.1 of 1e-6 is 1e-7. Factors of optimizer.rates that match it "
            "multiply with this one.",
            ge=0,
            le=100,
        ),
    ] = 0.1
    token_embedding: Annotated[
        Literal["frozen", "row_wise"],
        about(
            "Token embedding",
            "The table of what single words mean. frozen: it stays; row_wise: each word learns by itself, and those "
            "in no caption of a step stay as they are.",
        ),
    ] = "frozen"
    element_clip: Annotated[
        float,
        about(
            "Element clip",
            "The most that a single number of a text encoder moves in a step, in learning rates. 1 means: as far as "
            "the learning rate.",
            gt=0,
            le=1000,
        ),
    ] = 5.0
    stop_after: Annotated[
        int,
        about(
            "Stop after",
            "The step after which text encoders learn no more; the UNet goes on. 0: they learn to the end.",
            "steps",
            ge=0,
            le=10_000_000,
        ),
    ] = 0


class Ema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A running average of the trained weights, in fp32 in host memory."""

    decay: Annotated[
        float,
        about(
            "Kept a step (0: off)",
            "How much of the average each step keeps: 0.999 averages over about the last 1000 steps. 0: no average.",
            ge=0,
            le=0.9999,  # in fp32, what a slower one adds to a weight in a step is lost
            remedy="Write 0.9999 or less, as 0.999; 0 is none.",
        ),
    ] = 0.0
    warmup: Annotated[
        bool,
        about(
            "Warm-up",
            "Keep less in the beginning, so that the base is soon forgotten: (1 + n) / (10 + n) after n steps, where "
            "that is less.",
        ),
    ] = True
    previews: Annotated[bool, about("Previews", "Draw previews with the average, not with the latest weights.")] = True
    export: Annotated[
        Literal["average", "latest", "both"],
        about("Export", "Which weights the finished file holds; both writes two files."),
    ] = "average"

"""How an update is made of a gradient, and what is kept beside the weights."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import about

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
    previews_of_both: Annotated[
        bool, about("Both previews", "Draw each preview with the other weights too, to compare; takes twice as long.")
    ] = False
    export: Annotated[
        Literal["average", "latest", "both"],
        about("Export", "Which weights the finished file holds; both writes two files."),
    ] = "average"

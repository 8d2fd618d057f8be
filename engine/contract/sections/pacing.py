"""How fast it learns over the run, and whether the text encoders do."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import OVER_THE_RUN, Point, about


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

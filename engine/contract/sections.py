"""The profile's sections: frozen types whose fields have one default, a range, a unit and help each.

The help texts are what the form, `aozora-tui check` and the documentation show.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field


def about(title: str, description: str, unit: str = "", kind: str = "", **bounds: Any) -> Meta:
    """A field's label, help, unit, and kind of text (`file`, `folder`, `colour`, `pattern`), with its bounds."""
    return Meta(title=title, description=description, extra={"unit": unit, "kind": kind}, **bounds)


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fine-tuned."""

    base: Annotated[
        str,
        about(
            "Base checkpoint", "The SDXL checkpoint to start from: one .safetensors file.", kind="file", min_length=1
        ),
    ]
    tokenizer: Annotated[
        str,
        about(
            "Tokenizer folder",
            "A folder with vocab.json and merges.txt. Empty: CLIP's own, from the local Hugging Face cache.",
            kind="folder",
        ),
    ] = ""
    precision: Annotated[
        Literal["bf16", "fp32"],
        about(
            "Precision",
            "What the network computes in. bf16 halves the memory; updates go to a higher-precision master either way.",
        ),
    ] = "bf16"


class Folder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One folder of pictures."""

    path: Annotated[
        str,
        about(
            "Folder", "Pictures, searched recursively; captions in .txt files beside them.", kind="folder", min_length=1
        ),
    ]
    repeats: Annotated[
        int, about("Repeats", "How often each picture is drawn in one epoch.", "times", ge=1, le=1000)
    ] = 1


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt from."""

    folders: Annotated[
        tuple[Folder, ...], about("Folders", "Where the pictures are: one [[data.folders]] table each.", min_length=1)
    ]
    resolution: Annotated[
        int,
        about(
            "Resolution",
            "Each bucket has about resolution x resolution pixels, whatever its shape. SDXL was made at 1024.",
            "pixels",
            ge=64,
            le=4096,
        ),
    ] = 1024
    bucket_step: Annotated[
        int,
        about(
            "Bucket step",
            "Bucket sides are multiples of this. 64 is customary; 32 at least.",
            "pixels",
            ge=32,
            le=256,
            multiple_of=32,
        ),
    ] = 64
    upscale: Annotated[
        bool, about("Upscale small pictures", "Off: a small picture gets a smaller bucket instead of invented detail.")
    ] = False
    background: Annotated[
        str,
        about(
            "Background",
            "What shows through transparent pictures.",
            kind="colour",
            pattern="^#[0-9a-fA-F]{6}$",
            examples=["#rrggbb"],
        ),
    ] = "#ffffff"
    cache: Annotated[
        str,
        about("Cache folder", "Encoded pictures and captions are kept here, by content.", kind="folder", min_length=1),
    ] = "{cache}"


class Objective(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the network is asked to say, and how errors count."""

    prediction_type: Annotated[
        Literal["v_prediction", "epsilon", "flow"],
        about(
            "Prediction type",
            "What the base checkpoint predicts. NoobAI-XL v-pred and Aozora: v_prediction; SDXL base: epsilon.",
        ),
    ] = "v_prediction"
    zero_terminal_snr: Annotated[
        bool,
        about("Zero terminal SNR", "The last timestep is pure noise (arXiv 2305.08891). Needs v_prediction."),
    ] = True
    loss_weight: Annotated[
        Literal["min_snr", "none"],
        about("Loss weight", "min_snr is arXiv 2303.09556 in the form right for the prediction type."),
    ] = "min_snr"
    min_snr_gamma: Annotated[
        float,
        about(
            "Min-SNR gamma",
            "Timesteps with a higher signal-to-noise ratio count as if they had this one.",
            gt=0,
            le=100,
        ),
    ] = 5.0
    ip_noise_gamma: Annotated[
        float,
        about(
            "Input perturbation",
            "Extra noise on the network's input only, not in the target (arXiv 2301.11706).",
            ge=0,
            le=1,
        ),
    ] = 0.0
    timesteps: Annotated[
        Literal["uniform", "noisier_half"],
        about("Timesteps", "Where on the noise scale to train. noisier_half draws 500 to 999 (residual shifting)."),
    ] = "uniform"
    conditional_dropout: Annotated[
        float,
        about(
            "Conditional dropout",
            "How often the caption is replaced by the empty one; guidance needs some.",
            "share",
            ge=0,
            le=1,
        ),
    ] = 0.1


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
        float, about("Gradient clip", "Greatest global L2 norm of a step's gradient; 0 does not clip.", ge=0, le=1e6)
    ] = 1.0
    seed: Annotated[
        int,
        about(
            "Seed",
            "Order, noise, timesteps and dropout are functions of it. 0 is a seed like any other.",
            ge=0,
            le=2**31,
        ),
    ] = 42


class Optimizer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adafactor (arXiv 1804.04235), without its own learning-rate rules, factored over flattened convolutions."""

    learning_rate: Annotated[float, about("Learning rate", "The peak; the schedule scales it.", gt=0, le=1)] = 1e-6
    weight_decay: Annotated[float, about("Weight decay", "Decoupled, times the learning rate.", ge=0, le=1)] = 0.0
    decay_exponent: Annotated[
        float, about("Decay exponent", "Second moments forget with 1 - step^-this.", gt=0, le=1)
    ] = 0.8
    clip_threshold: Annotated[
        float,
        about("Update clip", "Greatest root mean square of one tensor's update, in learning rates.", gt=0, le=100),
    ] = 1.0


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The learning rate over the run."""

    shape: Annotated[
        Literal["cosine", "linear", "constant"], about("Shape", "How the rate falls after the warm-up.")
    ] = "cosine"
    warmup: Annotated[
        float, about("Warm-up", "Share of the steps in which the rate rises to its peak.", "share", ge=0, le=0.9)
    ] = 0.1
    minimum: Annotated[float, about("Minimum", "Where the fall ends, as a share of the peak.", "share", ge=0, le=1)] = (
        0.0
    )


class Layers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tensors of the UNet learn; the others are frozen and cost no gradient, state or time."""

    train: Annotated[
        tuple[str, ...],
        about(
            "Trained",
            "Patterns over tensor names: `*` everything, `mid_block.*` a block, `attn2` every tensor with that part.",
            kind="pattern",
            min_length=1,
        ),
    ] = ("*",)
    freeze: Annotated[
        tuple[str, ...], about("Frozen", "Patterns taken out again of what is trained.", kind="pattern")
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
        Literal["auto", "plain"],
        about("Plan", "plain keeps weights and fp32 gradient sums on the device."),
    ] = "auto"
    threads: Annotated[
        int,
        about(
            "Processor threads", "What torch may use of the processor; 0 leaves it to torch.", "threads", ge=0, le=1024
        ),
    ] = 0
    checkpointing: Annotated[
        bool,
        about(
            "Activation checkpointing", "Recompute activations in the backward pass: less memory, a quarter more time."
        ),
    ] = True


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
    export: Annotated[bool, about("Export", "Write one .safetensors file for other programs at the end.")] = True
    export_precision: Annotated[
        Literal["same", "bf16", "fp16", "fp32"],
        about(
            "Export precision", "Of the trained tensors. same, and all the others: as the base checkpoint stores them."
        ),
    ] = "same"


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run is told. Sections in the order a person thinks of them."""

    model: Annotated[Model, about("Model", "What is fine-tuned.")]
    data: Annotated[Data, about("Data", "What is learnt from.")]
    objective: Annotated[Objective, about("Objective", "What is learnt.")] = field(default_factory=Objective)
    train: Annotated[Train, about("Training", "How long, how much at once.")] = field(default_factory=Train)
    optimizer: Annotated[Optimizer, about("Optimizer", "Adafactor.")] = field(default_factory=Optimizer)
    schedule: Annotated[Schedule, about("Schedule", "The learning rate over the run.")] = field(
        default_factory=Schedule
    )
    layers: Annotated[Layers, about("Layers", "Which tensors learn.")] = field(default_factory=Layers)
    memory: Annotated[Memory, about("Memory", "Where things live.")] = field(default_factory=Memory)
    preview: Annotated[Preview, about("Preview", "Pictures while it trains.")] = field(default_factory=Preview)
    save: Annotated[Save, about("Saving", "What is kept.")] = field(default_factory=Save)

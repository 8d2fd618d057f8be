"""What is fine-tuned, and from what."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import about


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fine-tuned."""

    base: Annotated[
        str,
        about(
            "Base checkpoint",
            "The SDXL checkpoint to start from: one .safetensors file, or a diffusers folder.",
            kind="file",
            min_length=1,
        ),
    ]
    vae: Annotated[
        str,
        about(
            "VAE",
            "Another VAE file to encode with; the export carries it, unless it is of the UNet alone. Empty: the base "
            "checkpoint's own.",
            kind="file",
        ),
    ] = ""
    tokenizer: Annotated[
        str,
        about(
            "Tokenizer folder",
            "A folder with CLIP's vocab.json and merges.txt, or tokenizer.json. Empty: whatever this machine has.",
            kind="folder",
        ),
    ] = ""
    fetch_tokenizer: Annotated[
        bool,
        about(
            "Fetch the tokenizer",
            "May load CLIP's tokenizer (1.5 MB) from the Hugging Face hub if neither the profile, the base nor the "
            "local cache has one.",
        ),
    ] = False
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
    max_tokens: Annotated[
        int,
        about(
            "Longest caption",
            "Captions are encoded in chunks of 75 tokens; what is beyond this many is cut, and said.",
            "tokens",
            ge=75,
            le=750,
            multiple_of=75,
        ),
    ] = 225
    vae_precision: Annotated[
        Literal["fp32", "bf16"],
        about("VAE precision", "What pictures are encoded in. SDXL's VAE overflows in fp16, so that is not offered."),
    ] = "fp32"
    vae_tiling: Annotated[
        Literal["auto", "on", "off"],
        about(
            "VAE tiling",
            "Encode large pictures in overlapping tiles: little memory, values differ slightly. auto: if memory asks.",
        ),
    ] = "auto"
    latents: Annotated[
        Literal["mean", "sampled"],
        about("Latents", "mean: each picture's most likely latents. sampled: drawn anew around them at every use."),
    ] = "mean"
    cache: Annotated[
        str,
        about("Cache folder", "Encoded pictures and captions are kept here, by content.", kind="folder", min_length=1),
    ] = "{cache}"

"""Which model family a checkpoint's tensor names and shapes belong to, and why it cannot be trained here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.contract.architecture import read_architecture
from engine.contract.part_names import VAE_LEVELS, is_vae_matrix
from engine.contract.safetensors_header import (
    TEXT_2_PREFIX,
    TEXT_PREFIX,
    VAE_PREFIX,
    CheckpointError,
    Header,
    TensorInfo,
)
from engine.contract.unet_names import LEVELS, UNET_PREFIX, Topology, read_topology

LATENT_CHANNELS = 4

# (part of a tensor name, the adapter's kind): the first that is met decides.
_ADAPTERS = (
    ("hada_w", "LoHa"),
    ("lokr_w", "LoKr"),
    ("oft_blocks", "OFT"),
    ("oft_diag", "OFT"),
    ("lora_", "LoRA"),
    ("_lora.", "LoRA"),
    (".lora.", "LoRA"),
)
# (part of a tensor name, what a file with it is): other models, by what none but them has.
_OTHERS = (
    ("double_blocks.", "a FLUX-like transformer"),
    ("single_transformer_blocks.", "a FLUX-like transformer"),
    ("joint_blocks.", "Stable Diffusion 3"),
    (".attn.add_k_proj.", "Stable Diffusion 3"),
    ("control_model.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
    ("input_hint_block.", "a ControlNet"),
)
# Where a file that is one part alone keeps its tensors.
_VAE_STARTS = (VAE_PREFIX, "encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "vae.")
_TEXT_STARTS = (
    *("conditioner.", "text_model.", "transformer.text_model.", "transformer.resblocks.", "text_encoder", "clip_"),
    *("token_embedding.", "positional_embedding", "text_projection", "embeddings.", "ln_final.", "encoder.block."),
    *("encoder.layers.", "final_layer_norm.", "logit_scale", "shared.", "cond_stage_model."),
)
_BARE_UNET = ("input_blocks.0.0.weight", "down_blocks.0.resnets.0.conv1.weight", "unet.conv_in.weight")
_SIZES = UNET_PREFIX + "label_emb.0.0.weight"  # what turns sizes and pooled text into an embedding
_REFINER_SIZES = 2560  # its input's width in the refiner
_CONTEXT_WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2"}  # of the text that its UNet reads

_PARTS = {
    UNET_PREFIX: "UNet",
    VAE_PREFIX: "VAE",
    TEXT_PREFIX: "first text encoder",
    TEXT_2_PREFIX: "second text encoder",
}
_TRAINABLE = ("F64", "F32", "F16", "BF16")
_POSITIONS = "embeddings.position_ids"  # old text encoders have this count from 0, which no module loads
_COUNTING = (*_TRAINABLE, "I64", "I32")
_NO_INTEGERS = {"BOOL": "truth values", "C64": "complex numbers"}
_MOST_LAYERS = 100  # in a row; SDXL has 32, and modules of tens of thousands take minutes to set up
_LAYERS = {TEXT_PREFIX: TEXT_PREFIX + "encoder.layers.", TEXT_2_PREFIX: TEXT_2_PREFIX + "transformer.resblocks."}
_UNET_WIDTHS = tuple(f"{UNET_PREFIX}input_blocks.{3 * level + 1}.0.out_layers.3.weight" for level in range(LEVELS))
_VAE_WIDTHS = tuple(f"{VAE_PREFIX}encoder.down.{level}.block.0.conv2.weight" for level in range(VAE_LEVELS))
_TEXT_WIDTH, _TEXT_2_WIDTH = TEXT_PREFIX + "embeddings.token_embedding.weight", TEXT_2_PREFIX + "token_embedding.weight"
_POOLED = TEXT_2_PREFIX + "text_projection"

# Tensors whose shapes the parts' configs are read from, with their numbers of dimensions.
_NEEDED = {
    UNET_PREFIX + "input_blocks.0.0.weight": 4,
    **dict.fromkeys(_UNET_WIDTHS, 4),
    UNET_PREFIX + "middle_block.1.transformer_blocks.0.attn2.to_k.weight": 2,
    _SIZES: 2,
    UNET_PREFIX + "out.2.weight": 4,
    **dict.fromkeys(_VAE_WIDTHS, 4),
    VAE_PREFIX + "post_quant_conv.weight": 4,
    _TEXT_WIDTH: 2,
    TEXT_PREFIX + "embeddings.position_embedding.weight": 2,
    TEXT_PREFIX + "encoder.layers.0.mlp.fc1.weight": 2,
    _TEXT_2_WIDTH: 2,
    TEXT_2_PREFIX + "positional_embedding": 2,
    TEXT_2_PREFIX + "transformer.resblocks.0.mlp.c_fc.weight": 2,
    _POOLED: 2,
}

Names = Mapping[str, TensorInfo]


def family(header: Header) -> tuple[str, str]:
    """(name, why it cannot be trained here: "" or the rest of a sentence that starts with the file's name)."""
    names = header.tensors
    if not names:
        return "a file without tensors", "holds no tensors"
    for part, kind in _ADAPTERS:
        if _has(names, part):
            return f"a {kind}", f"is a {kind}, an adapter and not a checkpoint: merge it into its base first"
    for part, what in _OTHERS:
        if _has(names, part):
            return what, f"is {what}, not SDXL: only SDXL can be trained here"
    if "emb_params" in names or set(names) <= {"clip_l", "clip_g"}:
        return "a textual inversion", "is a textual inversion embedding, not a checkpoint: choose an SDXL checkpoint"
    if not any(name.startswith(UNET_PREFIX) for name in names):
        return _without_unet(names)
    if _SIZES not in names or any(name.startswith("cond_stage_model.") for name in names):
        return _without_sizes(names)
    return _sdxl(header)


def _without_unet(names: Names) -> tuple[str, str]:
    if any(name in names for name in _BARE_UNET):
        return "a UNet alone", (
            "is a UNet alone, without VAE and text encoders: choose the whole checkpoint it belongs to, or its "
            "diffusers folder"
        )
    weights = [name for name, info in names.items() if info.elements]
    if not weights:
        return "a file without weights", "holds no weights"
    if all(name.startswith(_TEXT_STARTS) for name in weights):
        return "a text encoder alone", "is a text encoder alone: choose a whole SDXL checkpoint"
    if all(name.startswith((*_VAE_STARTS, "loss.", "model_ema.")) for name in weights):
        return "a VAE alone", "is a VAE alone: choose a whole SDXL checkpoint as the base, and name this as its VAE"
    return "an unknown model", f"holds no UNet ({next(iter(names))} ...): choose a whole SDXL checkpoint"


def _without_sizes(names: Names) -> tuple[str, str]:
    what = _CONTEXT_WIDTHS.get(_context_width(names))
    if what is None and not any(name.startswith("cond_stage_model.") for name in names):
        return "a UNet without size conditioning", "has a UNet without SDXL's size conditioning: it is not SDXL"
    what = what or "Stable Diffusion 1 or 2"
    return what, f"is {what}, not SDXL: only SDXL can be trained here"


def _sdxl(header: Header) -> tuple[str, str]:
    names = header.tensors
    first = names.get(UNET_PREFIX + "input_blocks.0.0.weight")
    channels = first.shape[1] if first is not None and len(first.shape) == 4 else 0
    refiner = any(name.startswith("conditioner.embedders.0.model.") for name in names)
    if refiner or names[_SIZES].shape[-1:] == (_REFINER_SIZES,):
        return "SDXL refiner", "is the SDXL refiner, which has another layout: choose an SDXL base checkpoint"
    if channels != LATENT_CHANNELS:
        return f"SDXL with {channels} input channels", (
            f"takes {channels} input channels, not 4 (an inpainting or edit model): choose a plain SDXL checkpoint"
        )
    try:
        topology = read_topology(names)
    except ValueError as error:
        return "a pruned SDXL", f"has not SDXL's arrangement of blocks ({error}): it may be a pruned model"
    wrong = _in_other_numbers(header) or _incomplete(names) or _oddly_shaped(names) or _too_deep(names, topology)
    return wrong or _misdescribed(header, topology) or ("SDXL base", "")


def _in_other_numbers(header: Header) -> tuple[str, str] | None:
    """Nothing could be trained in them, and an export in the base's own precision would lose what was."""
    for prefix, part in _PARTS.items():
        for name, info in header.tensors.items():
            if name.startswith(prefix) and info.dtype not in (_COUNTING if name.endswith(_POSITIONS) else _TRAINABLE):
                files = [piece.path for piece in info.pieces if piece.path != header.path]
                kind, said = _numbers(info.dtype)
                return kind, f"has its {part}{f' ({files[0].name})' if files else ''} stored in {said}"
    return None


def _numbers(dtype: str) -> tuple[str, str]:
    other = "use the fp16 or bf16 file"
    if dtype.startswith("F8"):
        lost = "a training result kept in that precision would be lost"
        return "SDXL in 8-bit floats", f"8-bit floats ({dtype}): {lost}; {other}"
    if dtype in _NO_INTEGERS:
        return "an odd SDXL", f"{_NO_INTEGERS[dtype]} ({dtype}), not in floats: {other}"
    return "a quantized SDXL", f"integers ({dtype}), as quantized models are: {other}"


def _incomplete(names: Names) -> tuple[str, str] | None:
    parts = {prefix: part for prefix, part in _PARTS.items() if prefix != UNET_PREFIX}
    missing = [prefix for prefix in parts if not any(name.startswith(prefix) for name in names)]
    if len(missing) == len(parts):
        return "an SDXL UNet alone", (
            "is an SDXL UNet alone, without VAE and text encoders: choose the whole checkpoint it belongs to"
        )
    if missing == [VAE_PREFIX]:
        return "SDXL without a VAE", "lacks the VAE: name a VAE file (model.vae), or choose a whole SDXL checkpoint"
    if missing:
        lacking = " and the ".join(parts[prefix] for prefix in missing)
        return "an incomplete SDXL", f"lacks the {lacking}: choose a whole SDXL checkpoint"
    return None


def _oddly_shaped(names: Names) -> tuple[str, str] | None:
    for name, dimensions in _NEEDED.items():
        if name not in names:
            return "an incomplete SDXL", f"lacks {name}: it may be damaged; fetch it again"
        if len(names[name].shape) != dimensions or 0 in names[name].shape:
            return _not_sdxls_shape(name, names)
    if (names[_SIZES].shape[1] - names[_POOLED].shape[1]) not in range(6, 1 << 20, 6):  # six sizes, embedded alike
        return _not_sdxls_shape(_SIZES, names)
    for name, info in names.items():
        if name.startswith(VAE_PREFIX) and is_vae_matrix(name) and info.shape[2:] not in ((), (1, 1)):
            return _not_sdxls_shape(name, names)
    latent = names[VAE_PREFIX + "post_quant_conv.weight"].shape[0]
    if latent != LATENT_CHANNELS:
        return "SDXL with another VAE", f"has a VAE of {latent} latent channels, not 4: choose a plain SDXL checkpoint"
    return None


def _not_sdxls_shape(name: str, names: Names) -> tuple[str, str]:
    return "an odd SDXL", f"has {name} in the shape {names[name].shape}, which is not SDXL's"


def _too_deep(names: Names, topology: Topology) -> tuple[str, str] | None:
    deepest = max(*topology.depths, topology.middle_depth)
    if deepest > _MOST_LAYERS:
        return "an odd SDXL", f"has not SDXL's arrangement of blocks ({deepest} transformer blocks in a row)"
    for prefix, start in _LAYERS.items():
        layers = len({name.removeprefix(start).split(".")[0] for name in names if name.startswith(start)})
        if layers > _MOST_LAYERS:
            what = f"{layers} layers in its {_PARTS[prefix]}, which is more than SDXL's arrangement has"
            return "an odd SDXL", f"has {what}"
    return None


def _misdescribed(header: Header, topology: Topology) -> tuple[str, str] | None:
    """Whether the tensors are too narrow or too wide for what is said of them, or, if nothing is, for SDXL's."""
    try:
        said = read_architecture(header)
    except CheckpointError as error:
        return "SDXL of an unknown architecture", str(error).removeprefix(f"{header.path} ")

    def widths(*names: str, axis: int = 0) -> list[int]:
        return [header.tensors[name].shape[axis] for name in names]

    attended = [width for width, depth in zip(widths(*_UNET_WIDTHS), topology.depths, strict=True) if depth]
    heads = "attention heads of {} channels"
    for what, unit, part, channels in (
        ("norms of {} groups", said.unet_norm_groups, UNET_PREFIX, widths(*_UNET_WIDTHS)),
        ("norms of {} groups", said.vae_norm_groups, VAE_PREFIX, widths(*_VAE_WIDTHS)),
        (heads, said.unet_head_dim, UNET_PREFIX, attended),
        (heads, said.text_head_dim, TEXT_PREFIX, widths(_TEXT_WIDTH, axis=1)),
        (heads, said.text_head_dim, TEXT_2_PREFIX, widths(_TEXT_2_WIDTH, axis=1)),
    ):
        if wrong := [width for width in channels if width % unit]:
            where = f"its {_PARTS[part]}, which has {wrong[0]} channels"
            return "SDXL of an unknown architecture", (
                f"cannot have {what.format(unit)} in {where}: it is described wrongly, or not at all"
            )
    return None


def _context_width(names: Names) -> int:
    """Of the first cross-attention; 0 if there is none."""
    for block in ("input_blocks.1.1", "input_blocks.4.1"):
        info = names.get(f"{UNET_PREFIX}{block}.transformer_blocks.0.attn2.to_k.weight")
        if info is not None and len(info.shape) == 2:
            return info.shape[1]
    return 0


def _has(names: Iterable[str], part: str) -> bool:
    return any(part in name for name in names)

"""Which model family a checkpoint's tensor names and shapes belong to, and why it cannot be trained here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.contract.part_names import VAE_LEVELS
from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX, VAE_PREFIX, Header, TensorInfo
from engine.contract.unet_names import LEVELS, UNET_PREFIX, read_topology

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

# Tensors whose shapes the parts' configs are read from, with their numbers of dimensions.
_NEEDED = {
    UNET_PREFIX + "input_blocks.0.0.weight": 4,
    **{f"{UNET_PREFIX}input_blocks.{3 * level + 1}.0.out_layers.3.weight": 4 for level in range(LEVELS)},
    UNET_PREFIX + "middle_block.1.transformer_blocks.0.attn2.to_k.weight": 2,
    _SIZES: 2,
    UNET_PREFIX + "out.2.weight": 4,
    **{f"{VAE_PREFIX}encoder.down.{level}.block.0.conv2.weight": 4 for level in range(VAE_LEVELS)},
    VAE_PREFIX + "post_quant_conv.weight": 4,
    TEXT_PREFIX + "embeddings.token_embedding.weight": 2,
    TEXT_PREFIX + "embeddings.position_embedding.weight": 2,
    TEXT_PREFIX + "encoder.layers.0.mlp.fc1.weight": 2,
    TEXT_2_PREFIX + "token_embedding.weight": 2,
    TEXT_2_PREFIX + "positional_embedding": 2,
    TEXT_2_PREFIX + "transformer.resblocks.0.mlp.c_fc.weight": 2,
    TEXT_2_PREFIX + "text_projection": 2,
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
    return _sdxl(names)


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


def _sdxl(names: Names) -> tuple[str, str]:
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
        read_topology(names)
    except ValueError as error:
        return "a pruned SDXL", f"has not SDXL's arrangement of blocks ({error}): it may be a pruned model"
    return _incomplete(names) or _oddly_shaped(names) or ("SDXL base", "")


def _incomplete(names: Names) -> tuple[str, str] | None:
    parts = {VAE_PREFIX: "VAE", TEXT_PREFIX: "first text encoder", TEXT_2_PREFIX: "second text encoder"}
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
        if len(names[name].shape) != dimensions:
            return "an odd SDXL", f"has {name} in the shape {names[name].shape}, which is not SDXL's"
    latent = names[VAE_PREFIX + "post_quant_conv.weight"].shape[0]
    if latent != LATENT_CHANNELS:
        return "SDXL with another VAE", f"has a VAE of {latent} latent channels, not 4: choose a plain SDXL checkpoint"
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

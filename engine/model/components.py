"""The checkpoint's parts as modules: configs inferred from the tensors' shapes, so nothing is looked up or fetched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from engine.contract.architecture import read_architecture
from engine.contract.clip import end_of_text
from engine.contract.part_names import VAE_LEVELS
from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX, VAE_PREFIX, CheckpointError, Header
from engine.contract.unet_names import LAYERS_PER_BLOCK, UNET_PREFIX, read_topology
from engine.contract.vae_file import SCALING_FACTOR, TILE
from engine.model.convert import LazyState
from engine.model.single_file import Checkpoint

Part = Callable[[Checkpoint], LazyState]

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TextEncoders:
    """SDXL's two encoders, frozen and in eval mode."""

    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection


def unet_config(header: Header) -> dict[str, Any]:
    """Keyword arguments of UNet2DConditionModel."""
    architecture = read_architecture(header)
    shapes = _shapes(header, UNET_PREFIX)
    topology = read_topology(header.tensors)
    if topology.middle_depth != topology.depths[-1]:
        raise CheckpointError(f"{header.path}: the middle block's attention is not as deep as the last level's")
    channels = [
        shapes[f"input_blocks.{3 * level + 1}.0.out_layers.3.weight"][0] for level in range(len(topology.depths))
    ]
    conditioning = shapes["label_emb.0.0.weight"][1]
    pooled = _shapes(header, TEXT_2_PREFIX)["text_projection"][1]
    kinds = ["CrossAttn" if depth else "" for depth in topology.depths]
    return {
        "sample_size": 128,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": LAYERS_PER_BLOCK,
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
        "transformer_layers_per_block": [max(depth, 1) for depth in topology.depths],
        # diffusers' name for the number of heads, an old mistake of its own
        "attention_head_dim": [count // architecture.unet_head_dim for count in channels],
        "norm_num_groups": architecture.unet_norm_groups,
        "cross_attention_dim": shapes["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (conditioning - pooled) // 6,
        "projection_class_embeddings_input_dim": conditioning,
    }


def vae_config(header: Header) -> dict[str, Any]:
    """Keyword arguments of AutoencoderKL."""
    shapes = _shapes(header, VAE_PREFIX)
    channels = [shapes[f"encoder.down.{level}.block.0.conv2.weight"][0] for level in range(VAE_LEVELS)]
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * VAE_LEVELS,
        "up_block_types": ["UpDecoderBlock2D"] * VAE_LEVELS,
        "block_out_channels": channels,
        "layers_per_block": 2,
        "latent_channels": shapes["post_quant_conv.weight"][0],
        "norm_num_groups": read_architecture(header).vae_norm_groups,
        "sample_size": 1024,
        "scaling_factor": SCALING_FACTOR,
        "force_upcast": True,
    }


def text_config(header: Header) -> CLIPTextConfig:
    """Of the first encoder, CLIP-L."""
    shapes = _shapes(header, TEXT_PREFIX)
    vocabulary, hidden = shapes["embeddings.token_embedding.weight"]
    return clip_config(
        vocabulary,
        hidden,
        heads=hidden // read_architecture(header).text_head_dim,
        layers=_count(shapes, "encoder.layers."),
        mlp=shapes["encoder.layers.0.mlp.fc1.weight"][0],
        positions=shapes["embeddings.position_embedding.weight"][0],
        activation="quick_gelu",
        projection=hidden,
    )


def text_2_config(header: Header) -> CLIPTextConfig:
    """Of the second encoder, OpenCLIP bigG."""
    shapes = _shapes(header, TEXT_2_PREFIX)
    vocabulary, hidden = shapes["token_embedding.weight"]
    return clip_config(
        vocabulary,
        hidden,
        heads=hidden // read_architecture(header).text_head_dim,
        layers=_count(shapes, "transformer.resblocks."),
        mlp=shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        positions=shapes["positional_embedding"][0],
        activation="gelu",
        projection=shapes["text_projection"][1],
    )


def clip_config(
    vocabulary: int,
    hidden: int,
    *,
    heads: int,
    layers: int,
    mlp: int,
    positions: int,
    activation: str,
    projection: int,
) -> CLIPTextConfig:
    """An encoder's config; sizes as in the tensors' shapes, `activation` in transformers' words."""
    eos = end_of_text(vocabulary)
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=mlp,
        projection_dim=projection,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=positions,
        hidden_act=activation,
        layer_norm_eps=1e-5,
        attention_dropout=0.0,
        bos_token_id=eos - 1,
        eos_token_id=eos,
        pad_token_id=None,
    )


def verify(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError as loading would, naming them, for tensors that are missing, left over, or of another
    shape. Looks at the table of contents only, no tensor is read: half a second for SDXL."""
    _require_fit(_unet(checkpoint), Checkpoint.unet, checkpoint)
    _require_fit(_vae(checkpoint), Checkpoint.vae, checkpoint)
    _require_fit(_text_encoder(checkpoint), Checkpoint.text_encoder, checkpoint)
    _require_fit(_text_encoder_2(checkpoint), Checkpoint.text_encoder_2, checkpoint)


def load_unet(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet with scaled-dot-product attention, nothing of it trainable yet (see `set_trained`), in train mode.

    Raises CheckpointError, naming them, for tensors that are missing, left over, or of another shape.
    """
    unet = _unet(checkpoint)
    _load(unet, Checkpoint.unet, checkpoint, device=device, dtype=dtype)
    unet.set_attn_processor(AttnProcessor2_0())
    return unet.train()


def load_vae(
    checkpoint: Checkpoint,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    *,
    tiled: bool = False,
) -> AutoencoderKL:
    """The VAE, frozen. Stock SDXL weights overflow in float16: keep float32. Raises like `load_unet`.

    With `tiled`, what is larger than 512 pixels goes through in overlapping tiles of that side, blended at their seams:
    the peak memory is a 512-pixel picture's. Each tile is normalised by its own statistics, so values differ a little
    from the whole picture's.
    """
    vae = _vae(checkpoint)
    _load(vae, Checkpoint.vae, checkpoint, device=device, dtype=dtype)
    if tiled:
        vae.enable_tiling()
        # diffusers has no arguments for these; its default is the config's 1024.
        vae.tile_sample_min_size = TILE
        vae.tile_latent_min_size = TILE // 8
    return vae.eval()


def load_text_encoders(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> TextEncoders:
    """Both encoders, frozen. Raises like `load_unet`."""
    first, second = _text_encoder(checkpoint), _text_encoder_2(checkpoint)
    _load(first, Checkpoint.text_encoder, checkpoint, device=device, dtype=dtype)
    _load(second, Checkpoint.text_encoder_2, checkpoint, device=device, dtype=dtype)
    return TextEncoders(first.eval(), second.eval())


def set_trained(module: nn.Module, trained: AbstractSet[str]) -> list[tuple[str, nn.Parameter]]:
    """Freezes every parameter but those named in `trained` and returns these, in the module's order.

    Raises ValueError for a name the module does not have.
    """
    if unknown := trained - {name for name, _ in module.named_parameters()}:
        raise ValueError(f"no such tensor to train: {', '.join(sorted(unknown))}")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trained)
    return [(name, parameter) for name, parameter in module.named_parameters() if name in trained]


class _Outline(Checkpoint):
    """A checkpoint's names and shapes, without its bytes."""

    def tensor(self, name: str) -> Tensor:
        return torch.empty(self.header.tensors[name].shape, device="meta")


def _unet(checkpoint: Checkpoint) -> UNet2DConditionModel:
    with _in_outline(checkpoint):
        return UNet2DConditionModel(**unet_config(checkpoint.header))


def _vae(checkpoint: Checkpoint) -> AutoencoderKL:
    with _in_outline(checkpoint):
        return AutoencoderKL(**vae_config(checkpoint.header))


def _text_encoder(checkpoint: Checkpoint) -> CLIPTextModel:
    with _in_outline(checkpoint):
        return CLIPTextModel(text_config(checkpoint.header))


def _text_encoder_2(checkpoint: Checkpoint) -> CLIPTextModelWithProjection:
    with _in_outline(checkpoint):
        return CLIPTextModelWithProjection(text_2_config(checkpoint.header))


@contextlib.contextmanager
def _in_outline(checkpoint: Checkpoint) -> Iterator[None]:
    """What is made in here has shapes and no numbers. Turns what the libraries say of shapes that no model has into a
    CheckpointError of one sentence."""
    try:
        with torch.device("meta"):
            yield
    except CheckpointError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{checkpoint.path} does not hold an SDXL model: {reason}") from error


def _load(
    module: nn.Module, part: Part, checkpoint: Checkpoint, *, device: torch.device | str, dtype: torch.dtype
) -> None:
    _require_fit(module, part, checkpoint)
    # Copied one tensor at a time: the module must outlive the mapped file, and there is never a second copy of it.
    state = part(checkpoint)
    copies = {name: tensor.to(device, dtype, copy=True).contiguous() for name, tensor in state.items()}
    module.load_state_dict(copies, strict=True, assign=True)
    for owner, name, buffer in _computed_buffers(module):
        setattr(owner, name, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape))
    module.requires_grad_(False)


def _require_fit(module: nn.Module, part: Part, checkpoint: Checkpoint) -> None:
    wanted = module.state_dict()
    with _in_outline(checkpoint):
        state = part(_Outline(checkpoint.path, checkpoint.header, checkpoint.kind))
    missing, unexpected = [name for name in wanted if name not in state], [name for name in state if name not in wanted]
    if missing or unexpected:
        verb = "lacks" if missing else "has, unexpectedly,"
        raise CheckpointError(_does_not_fit(checkpoint, module, verb, missing or unexpected))
    if misshapen := [name for name in state if _shape(state, name) != wanted[name].shape]:
        raise CheckpointError(_does_not_fit(checkpoint, module, "has another shape of", misshapen))


def _shape(state: LazyState, name: str) -> torch.Size | None:
    """None for one that cannot be cut as the module's is, or that torch cannot even describe."""
    try:
        return state[name].shape
    except (IndexError, RuntimeError):
        return None


def _does_not_fit(checkpoint: Checkpoint, module: nn.Module, verb: str, names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{checkpoint.path} {verb} {', '.join(names[:most])}{more} of its {type(module).__name__}"


def _computed_buffers(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Buffers that no state dict carries: CLIP's position ids, and nothing else."""
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", name
                yield owner, name, buffer


def _shapes(header: Header, prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): info.shape for name, info in header.tensors.items() if name.startswith(prefix)}


def _count(names: Mapping[str, object], start: str) -> int:
    return len({name[len(start) :].split(".")[0] for name in names if name.startswith(start)})

"""Layers of one kind across the whole UNet, and selections that others trained with. Patterns, as in `layers.train`."""

from dataclasses import dataclass

from engine.contract.spelling import Spelling


@dataclass(frozen=True)
class Kind:
    """`patterns` together mean every layer of the kind."""

    label: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """`about` says whose selection it is, or what for."""

    label: str
    about: str
    spelling: Spelling


KINDS = (
    Kind("Self-attention", ("attn1",)),
    Kind("Cross-attention", ("attn2",)),
    Kind("Cross-attention, keys and values", ("attn2.to_k", "attn2.to_v")),
    Kind("Feed-forward", ("ff",)),
    Kind("Projections around attentions", ("proj_in", "proj_out")),
    Kind("Resnets", ("resnets",)),
    Kind("Time projections", ("time_emb_proj",)),
    Kind("Convolutions", ("conv", "conv1", "conv2", "conv_shortcut", "conv_in", "conv_out")),
    Kind("Norms", ("norm", "norm1", "norm2", "norm3", "conv_norm_out")),
    Kind("Embeddings of time and size", ("time_embedding", "add_embedding")),
    Kind("Down- and upsamplers", ("downsamplers", "upsamplers")),
    Kind("Biases", ("*.bias",)),
    Kind("The full size of the picture", ("depth:0",)),
    Kind("Half the size", ("depth:1",)),
    Kind("A quarter of the size", ("depth:2",)),
)
_V01 = ("attn1", "attn2", "ff", "time_emb_proj", "conv_in", "conv_out", "time_embedding")
_V015 = ("attn1", "attn2", "ff", "conv1", "add_embedding", "time_embedding", "downsamplers")
PRESETS = (
    Preset("The original's default", "as Aozora-XL v0.1 had it", Spelling(_V01)),
    Preset("Aozora-XL v0.15", "as published, on 12 GB", Spelling(_V015)),
    Preset("Input and middle", "for a character on 12 GB", Spelling(("conv_in", "down_blocks.*", "mid_block.*"))),
    Preset("Attentions", "self and cross", Spelling(("attn1", "attn2"))),
    Preset("All but embeddings", "time and size stay", Spelling(("*",), ("time_embedding", "add_embedding"))),
    Preset("Everything", "the whole UNet", Spelling(("*",))),
)

"""The demo as a diffusers folder, and what may become of one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import identify
from engine.contract.safetensors_header import CheckpointError
from engine.model.components import load_text_encoders, load_unet, load_vae
from engine.model.single_file import open_checkpoint
from engine.model.tokenizers import load_tokenizers

State = dict[str, torch.Tensor]

WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def pipeline_of(demo_folder: Path) -> StableDiffusionXLPipeline:
    """The demo's modules, for diffusers to save."""
    demo = open_checkpoint(demo_folder / "aozora-demo.safetensors")
    encoders, tokenizers = load_text_encoders(demo, "cpu", torch.float32), load_tokenizers(demo_folder, demo)
    return StableDiffusionXLPipeline(
        vae=load_vae(demo, "cpu"),
        text_encoder=encoders.text_encoder,
        text_encoder_2=encoders.text_encoder_2,
        tokenizer=tokenizers.tokenizer,
        tokenizer_2=tokenizers.tokenizer_2,
        unet=load_unet(demo, "cpu", torch.float32),
        scheduler=EulerDiscreteScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    )


def rewrite(folder: Path, component: str, change: Callable[[State], Mapping[str, torch.Tensor]]) -> None:
    file = folder / component / f"{WEIGHTS[component]}.safetensors"
    tensors = {name: tensor.clone().contiguous() for name, tensor in change(load_file(file)).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def configure(folder: Path, component: str, **changes: object) -> None:
    file = next(folder.glob(f"{component}/*config.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(path: Path, vae: Path | None = None) -> str:
    """Why it cannot be trained here; "" if it can."""
    try:
        return identify(read_base(path, vae)).why_not
    except CheckpointError as error:
        return f"{error}."

"""Where a run starts: the base checkpoint, what of it is trained, and the device."""

from dataclasses import dataclass
from pathlib import Path

import torch

from engine.contract import check
from engine.contract.layers import Layer, read_layers, select
from engine.contract.problems import Problem, ProfileError, errors
from engine.contract.safetensors_header import CheckpointError
from engine.contract.sections import Profile
from engine.model import components
from engine.model.single_file import Checkpoint, open_checkpoint
from engine.run.errors import RunError
from engine.run.verify import optimizer_problems


@dataclass(frozen=True)
class Base:
    """The checkpoint to start from; `trained` are the UNet's tensors that learn, by diffusers name."""

    checkpoint: Checkpoint
    layers: Layer
    trained: frozenset[str]


def open_base(profile: Profile, *, resumed: bool) -> Base:
    """Raises ProfileError with everything that is wrong on this machine."""
    if wrong := errors(check.check_machine(profile, Path.cwd(), new_run=not resumed).problems):
        raise ProfileError("profile", wrong)
    base = open_checkpoint(Path(profile.model.base), Path(profile.model.vae) if profile.model.vae else None)
    try:
        components.verify(base)
    except CheckpointError as error:
        raise ProfileError("profile", [Problem("model.base", str(error), "Fetch the file again.")]) from error
    layers = read_layers(base.header)
    if wrong := optimizer_problems(profile, base.header):
        raise ProfileError("profile", wrong)
    return Base(base, layers, select(layers.tensors, profile.layers.train, profile.layers.freeze).trained)


def pick_device(wanted: str) -> torch.device:
    """A card with its number. Raises RunError if one is asked for and there is none."""
    if wanted == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RunError(
            "no-cuda", f"memory.device is {wanted}, but torch sees no NVIDIA card", "Run `aozora-tui doctor`."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        text = f"memory.device is {wanted}, but there are {torch.cuda.device_count()} cards"
        raise RunError("no-cuda", text, "Cards are counted from cuda:0.")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def use(device: torch.device) -> None:
    """Have this thread compute on it; on a card on a stream of its own, since nothing can be recorded on the default
    one. May be called again."""
    if device.type != "cuda":
        return
    torch.cuda.set_device(device.index or 0)
    if torch.cuda.current_stream(device) == torch.cuda.default_stream(device):
        torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"

"""What loading and exporting a full-size checkpoint costs in memory and seconds, on any machine with 16 GB and no card.

python -m tests.gpu.random_sdxl FILE
python -m tests.gpu.own_memory FILE FOLDER_FOR_EXPORTS
"""

import sys
import time
from pathlib import Path

import torch

from engine.model import components
from engine.model.export import Trained, export
from engine.model.export_diffusers import export_diffusers
from engine.model.single_file import Checkpoint, open_checkpoint
from engine.model.tokenizers import load_tokenizers
from tests.gpu.rss import PeakOfOwnMemory, can_be_measured

GIB = 1 << 30


def load(base: Checkpoint, dtype: torch.dtype) -> None:
    began = time.monotonic()
    with PeakOfOwnMemory() as peak:
        unet = components.load_unet(base, "cpu", dtype)
    weights = sum(parameter.nbytes for parameter in unet.parameters())
    say(f"load {dtype}", peak, began, f"= {peak.bytes / weights:.3f} x the weights")


def write(base: Checkpoint, folder: Path, form: str) -> None:
    """With the whole UNet standing for a trained one, cast as it is asked for."""
    trained = Trained(
        unet=base.unet(), dtype=torch.bfloat16, prediction_type="v_prediction", zero_terminal_snr=True, metadata={}
    )
    began = time.monotonic()
    with PeakOfOwnMemory() as peak:
        if form == "diffusers":
            words = load_tokenizers(None, base)
            first, second = ((files.vocabulary, files.merges) for files in words.files)
            export_diffusers(base, trained, folder / form, vocabularies=(first, second))
        else:
            export(base, trained, folder / f"{form}.safetensors", form=form)
    say(f"export {form}", peak, began)


def say(what: str, peak: PeakOfOwnMemory, began: float, more: str = "") -> None:
    print(f"{what}: {time.monotonic() - began:.1f} s, peak {peak.bytes / GIB:.2f} GiB of own memory {more}", flush=True)  # noqa: T201


if __name__ == "__main__":
    assert can_be_measured(), "this kernel does not count a process's own memory"
    checkpoint = open_checkpoint(Path(sys.argv[1]))
    for dtype in (torch.bfloat16, torch.float32):
        load(checkpoint, dtype)
    for form in ("checkpoint", "unet", "diffusers"):
        write(checkpoint, Path(sys.argv[2]), form)

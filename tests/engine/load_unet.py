"""`python -m tests.engine.load_unet FILE DTYPE` loads a checkpoint's UNet on the processor. It prints the bytes of its
weights, how many bytes of its own the process grew by at the peak, and the seconds that took."""

import sys
import threading
import time
from pathlib import Path

import torch

from engine.model.components import load_unet
from engine.model.single_file import open_checkpoint


def own_bytes() -> int:
    """Without what is mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main(path: Path, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    before = own_bytes()
    seen, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(own_bytes())

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.monotonic()
    unet = load_unet(open_checkpoint(path), "cpu", dtype)
    seconds = time.monotonic() - began
    seen.append(own_bytes())
    done.set()
    watching.join()
    weights = sum(parameter.nbytes for parameter in unet.parameters())
    sys.stdout.write(f"{weights} {max(seen) - before} {seconds}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), getattr(torch, sys.argv[2]))

"""What the forecast says of each memory plan on a card: milliseconds by sample, and GiB of the card, for the whole UNet
at 1024 x 1024 one by one.

python -m scripts.plan_times CARD [ACCUMULATE ...]    CARD as the driver names it, "NVIDIA GeForce RTX 3060"
"""

import sys

import msgspec

from engine.contract.budget import GIB, Forecaster
from engine.contract.card_rates import rates_of
from engine.contract.layers import read_layers
from engine.contract.places import shipped_profiles_folder
from engine.contract.plans import Choice
from engine.contract.profile import load
from engine.contract.time_forecast import step_seconds
from tests.engine.sdxl import published

CHOICES = [
    Choice("plain", checkpointing=False),
    Choice("plain", checkpointing=True),
    Choice("fast", keep=70),
    Choice("fast", keep=30),
    Choice("resident"),
    Choice("stage-major"),
    Choice("stage-major", group=2),
    Choice("stage-major", group=4),
    Choice("stage-major", group=8),
]


def main(card: str, counts: list[int]) -> None:
    header, rates = published(), rates_of(card)
    layers = read_layers(header)
    profile = load(shipped_profiles_folder() / "whole-unet.toml")
    profile = msgspec.structs.replace(profile, preview=msgspec.structs.replace(profile.preview, prompts=()))
    sys.stdout.write(f"| {rates.card}: plan | GiB | " + " | ".join(f"{count} a step" for count in counts) + " |\n")
    sys.stdout.write("|---" * (2 + len(counts)) + "|\n")
    for choice in CHOICES:
        times, needs = [], 0
        for count in counts:
            asked = msgspec.structs.replace(profile, train=msgspec.structs.replace(profile.train, accumulate=count))
            forecaster = Forecaster(asked, layers, frozenset(layers.tensors), header)
            if choice.group > count:
                times.append("")
                continue
            needs = forecaster.under(choice).device
            times.append(f"{1000 * step_seconds(asked, forecaster, choice, rates) / count:.0f}")
        sys.stdout.write(f"| {choice} | {needs / GIB:.1f} | " + " | ".join(times) + " |\n")


if __name__ == "__main__":
    main(sys.argv[1], [int(count) for count in sys.argv[2:]] or [1, 4, 16, 32])

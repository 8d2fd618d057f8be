"""What each memory plan costs on this machine's card: SDXL's UNet with random weights, all of it trained, 1024x1024.

python -m scripts.benchmarks [FILE] [CASE ...]    every case in a process of its own; FILE gets the figures as JSON
python -m scripts.benchmarks --one CASE [--small]  one, in this process; small: a UNet of 3 million parameters

Times are of a window's gradient, by sample, and of one update; memory is torch's, allocated and reserved, and the
device's own count, all after the caches of the warm-up were dropped. `before` and `after` are other shapes whose memory
is measured too: (batch, height, width) in latents.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from engine.memory.compiling import compile_blocks
from engine.memory.graphs import CudaRecorder
from engine.memory.plain import PlainPlan
from engine.memory.plan import Embedded, Judged, MicroBatch, Plan
from engine.memory.recompute import recompute
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from engine.optim.adafactor import Adafactor, AdafactorSettings

GIB = 1 << 30
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SMALL = {
    "block_out_channels": (32, 64, 64),
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 2, 2),
    "norm_num_groups": 8,
}
Shape = tuple[int, int, int]
LARGE: Shape = (1, 128, 128)


@dataclass(frozen=True)
class Case:
    """`plan` and its options; `micros` a window; `cap` in GiB, a hard limit for what torch reserves."""

    plan: str
    micros: int = 16
    shape: Shape = LARGE
    windows: int = 3
    cap: float | None = None
    before: tuple[Shape, ...] = ()
    after: tuple[Shape, ...] = ()
    profile: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    buckets: tuple[Shape, ...] = ()  # instead of `shape`, the earlier ones more often


# Of a folder of photographs at a resolution of 1024, as 64 divides the sides.
BUCKETS: tuple[Shape, ...] = tuple(
    (1, height // 8, width // 8)
    for width, height in (
        (832, 1216), (1216, 832), (1024, 1024), (896, 1152), (1152, 896), (768, 1344), (1344, 768), (704, 1408),
        (960, 1088),
    )
)  # fmt: skip


def square(side: int, batch: int = 1) -> Shape:
    return batch, side // 8, side // 8


CASES = {
    "reference": Case("reference", micros=8, windows=3),
    "plain": Case("plain", options={"keep": 70}, before=(square(512), square(768)), after=(square(1280),)),
    "plain-checkpointed": Case("plain", options={"keep": 0}, before=(square(768),), after=(square(1536),)),
    "plain-batch4": Case("plain", options={"keep": 70}, shape=square(1024, 4), windows=3, profile=True),
    "plain-batch4-compiled": Case("plain", options={"keep": 70, "compiled": True}, shape=square(1024, 4), windows=3),
    "fast": Case("fast", micros=8, cap=12, options={"keep": 60}, before=(square(768),)),
    "resident": Case("resident", micros=8, cap=8, options={"keep": 0}, before=(square(768),), after=(square(1280),)),
    "stage-major": Case("stage-major", cap=4, before=(square(768),), after=(square(1536),)),
    "stage-major-grouped": Case("stage-major", cap=4.5, options={"group": 4}, before=(square(768),)),
    "stage-major-grouped-staying": Case("stage-major", cap=4.5, options={"group": 4, "staying": 900 << 20}),
    "stage-major-in-6": Case("stage-major", cap=6, options={"group": 8}),
    "stage-major-nine-buckets-16": Case(
        "stage-major", windows=12, cap=4.5, options={"group": 4}, buckets=BUCKETS, after=BUCKETS[:1]
    ),
    "stage-major-nine-buckets-64": Case(
        "stage-major", micros=64, windows=8, cap=4.5, options={"group": 4}, buckets=BUCKETS, after=BUCKETS[:1]
    ),
    "stage-major-grouped-compiled": Case("stage-major", cap=4.5, options={"group": 4, "compiled": True}),
    "plain-attentions": Case(
        "plain", windows=2, micros=4, options={"keep": 0, "trained": "attn"}, before=(square(768),)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("file", nargs="?")
    parser.add_argument("cases", nargs="*")
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write(json.dumps(measure(CASES[asked.one], small=asked.small)) + "\n")
        return
    found: dict[str, Any] = {"card": _card()}
    as_a_run_has_it = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", **os.environ}
    for name in asked.cases or CASES:
        again = [sys.executable, "-m", "scripts.benchmarks", "--one", name, *(["--small"] if asked.small else [])]
        done = subprocess.run(again, capture_output=True, text=True, check=False, env=as_a_run_has_it)
        last = done.stdout.strip().rpartition("\n")[2]
        found[name] = json.loads(last) if done.returncode == 0 else {"failed": done.stderr[-1500:]}
        sys.stdout.write(f"{name}: {json.dumps(found[name])}\n")
        sys.stdout.flush()
        if asked.file:
            Path(asked.file).write_text(json.dumps(found, indent=1))


def measure(case: Case, *, small: bool) -> dict[str, Any]:
    """All of a case's figures, as JSON has them."""
    began = time.monotonic()
    device = torch.device("cuda")
    torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    unet = random_unet(small=small)
    if case.plan == "stage-major":
        unet = unet.to("cpu")
        torch.cuda.empty_cache()
    if case.cap is not None:
        torch.cuda.set_per_process_memory_fraction(case.cap * GIB / torch.cuda.get_device_properties(0).total_memory)
    if case.plan == "reference":
        return reference(case, unet)
    plan = make_plan(case, unet, device)
    context = unet.config.cross_attention_dim
    window = partial(random_window, context=context, pooled=unet.config.projection_class_embeddings_input_dim - 1536)
    group = case.options.get("group", 1)
    plan.gradient(window(group, case.shape), _ignore)  # step by step: libraries load what they need
    plan.rehearse()
    torch.cuda.synchronize()
    found: dict[str, Any] = {"ready after s": round(time.monotonic() - began, 1)}
    memory = {str(shape): peak(plan, window(2 * group, shape)) for shape in case.before}
    found |= timed(
        case, plan, partial(mixed, case, window) if case.buckets else partial(window, case.micros, case.shape)
    )
    if case.profile:
        found["ms a sample by kernel"] = by_kernel(plan, window(4, case.shape), samples=4 * case.shape[0])
    memory |= {str(shape): peak(plan, window(2 * group, shape)) for shape in case.after}
    return found | {"memory at other shapes": memory}


_DRAWS = random.Random(1)


def mixed(case: Case, window: Callable[[int, Shape], list[Judged]]) -> list[Judged]:
    """The bucket number n is drawn 1/n as often as the first."""
    often = [1 / number for number in range(1, len(case.buckets) + 1)]
    drawn = _DRAWS.choices(case.buckets, often, k=case.micros)
    return [asked for shape in drawn for asked in window(1, shape)]


def make_plan(case: Case, unet: Any, device: torch.device) -> Plan:
    options = dict(case.options)
    if options.pop("compiled", False):
        compile_blocks(unet)
    keep, part = options.pop("keep", None), options.pop("trained", "")
    names = frozenset(name for name, _ in unet.named_parameters() if part in name)
    recorder = CudaRecorder(device)
    if case.plan == "stage-major":
        return StageMajorPlan(unet, names, adafactor, device=device, window=case.micros, recorder=recorder, **options)
    if case.plan == "plain":
        if keep != 70:
            recompute(unet, keep=keep)
        return PlainPlan(unet, names, adafactor, recorder=recorder, **options)
    return RingPlan(unet, names, adafactor, keep=keep, recorder=recorder, **options)


def timed(case: Case, plan: Plan, window: Callable[[], list[Judged]]) -> dict[str, Any]:
    """The last windows' median; the first one also records."""
    gradients, updates = [], []
    fresh()
    for _ in range(case.windows):
        asked = window()
        torch.cuda.synchronize()
        begin = time.monotonic()
        outcome = plan.gradient(asked, _ignore)
        torch.cuda.synchronize()
        middle = time.monotonic()
        assert outcome.sound
        plan.update(lambda _: 1e-6, max_grad_norm=1.0)
        torch.cuda.synchronize()
        gradients.append(1e3 * (middle - begin) / case.micros / case.shape[0])
        updates.append(time.monotonic() - middle)
    return {
        "ms a sample": [round(each, 1) for each in gradients],
        "update s": [round(each, 2) for each in updates],
        "memory": counts(),
    }


def peak(plan: Plan, asked: list[Judged]) -> dict[str, float]:
    fresh()
    plan.gradient(asked, _ignore)
    torch.cuda.synchronize()
    return counts()


KERNELS = {
    "copies between host and card": ("Memcpy HtoD", "Memcpy DtoH"),
    "attention": ("sdpa", "flash", "fmha"),
    "convolutions and their change of layout": ("xmma", "implicit_gemm", "nchwToNhwc", "nhwcToNchw", "cudnn", "dgrad"),
    "matrix products": ("nvjet", "gemm", "cutlass", "splitK"),
    "adding gradients to fp32 sums": ("CUDAFunctor_add<float>",),
    "norms": ("RowwiseMoments", "layer_norm", "GroupNorm", "GammaBeta", "ComputeInternalGradients"),
}


def by_kernel(plan: Plan, asked: list[Judged], *, samples: int) -> dict[str, float]:
    """What the card's time goes into, copies beside the computation as well; and what it is from end to end."""
    plan.gradient(asked, _ignore)
    torch.cuda.synchronize()
    begin = time.monotonic()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        plan.gradient(asked, _ignore)
        torch.cuda.synchronize()
    found = {"from end to end": time.monotonic() - begin}
    for row in profile.key_averages():
        kind = next((kind for kind, marks in KERNELS.items() if any(mark in row.key for mark in marks)), "others")
        found[kind] = found.get(kind, 0.0) + row.self_device_time_total / 1e6
    return {kind: round(1e3 * seconds / samples, 2) for kind, seconds in found.items()}


def fresh() -> None:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def counts() -> dict[str, float]:
    """GiB."""
    free, total = torch.cuda.mem_get_info()
    figures = {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "device": total - free,
    }
    return {name: round(figure / GIB, 3) for name, figure in figures.items()}


def reference(case: Case, unet: Any) -> dict[str, Any]:
    """A plain loop as diffusers' own examples have it: bf16, checkpointing, bf16 gradients added up by autograd, and
    transformers' Adafactor on the bf16 weights."""
    from transformers.optimization import Adafactor as TheirAdafactor

    unet.enable_gradient_checkpointing()
    theirs = TheirAdafactor(unet.parameters(), lr=1e-6, scale_parameter=False, relative_step=False, warmup_init=False)
    gradients, updates = [], []
    for number in range(case.windows):
        if number == 1:
            fresh()
        window = random_window(case.micros, case.shape, context=2048, pooled=1280)
        torch.cuda.synchronize()
        begin = time.monotonic()
        for asked in window:
            condition = asked.micro.condition
            assert isinstance(condition, Embedded)
            answer = unet(
                asked.micro.noisy_latents.bfloat16(),
                asked.micro.network_time,
                encoder_hidden_states=condition.prompt_embeds.bfloat16(),
                added_cond_kwargs={
                    "text_embeds": condition.pooled_prompt_embeds.bfloat16(),
                    "time_ids": asked.micro.time_ids,
                },
            ).sample
            torch.autograd.backward(asked.losses(answer).mean() / case.micros)
        torch.cuda.synchronize()
        middle = time.monotonic()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        theirs.step()
        theirs.zero_grad()
        torch.cuda.synchronize()
        gradients.append(1e3 * (middle - begin) / case.micros)
        updates.append(time.monotonic() - middle)
    return {
        "ms a sample": [round(each, 1) for each in gradients],
        "update s": [round(each, 2) for each in updates],
        "memory": counts(),
    }


def random_unet(*, small: bool) -> Any:
    """On the card, bf16: matrices scaled by their fan-in, norms 1 and 0."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**(SDXL | (SMALL if small else {})))
    unet = unet.to(torch.bfloat16).to_empty(device="cuda")
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return unet.train()


def random_window(micros: int, shape: Shape, *, context: int, pooled: int) -> list[Judged]:
    """On the card; the loss is the mean square of the difference to a fixed target, by sample."""
    window = []
    for _ in range(micros):
        size, height, width = shape
        draw = partial(torch.randn, device="cuda")
        micro = MicroBatch(
            noisy_latents=draw(size, 4, height, width),
            network_time=torch.randint(0, 1000, (size,), device="cuda"),
            condition=Embedded(draw(size, 77, context), draw(size, pooled)),
            time_ids=torch.tensor([[8.0 * height, 8.0 * width, 0, 0, 8.0 * height, 8.0 * width]] * size).cuda(),
        )
        window.append(Judged(micro, _difference_to(draw(size, 4, height, width))))
    return window


def _difference_to(target: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda answer: (answer.float() - target).square().mean((1, 2, 3))


def adafactor(shapes: Mapping[str, torch.Size], device: torch.device) -> Adafactor:
    return Adafactor(shapes, AdafactorSettings(), device)


def _ignore(*_: object) -> None:
    pass


def _card() -> dict[str, str]:
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return {"card": told, "torch": torch.__version__, "date": time.strftime("%d %B %Y")}


if __name__ == "__main__":
    main()

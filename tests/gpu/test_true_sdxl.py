"""A full-size checkpoint in and out: what loading, one step and the export cost, and what diffusers makes of it.

`pytest -m gpu -s tests/gpu/test_true_sdxl.py` prints the figures.
"""

import json
import time
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.unet_names import UNET_PREFIX
from engine.model import components, latents, text
from engine.model.export import Trained
from engine.model.export_diffusers import export_diffusers
from engine.model.single_file import Checkpoint, fingerprint, open_checkpoint, raw
from engine.model.tokenizers import Tokenizers, load_tokenizers
from tests.end_to_end.harness import of_type, run_here
from tests.gpu.random_sdxl import NAMES, full_size_folder
from tests.gpu.rss import PeakOfOwnMemory, can_be_measured

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
    pytest.mark.timeout(900),
]

GIB = 1 << 30
PROFILE = """
[model]
base = "{folder}/random-sdxl.safetensors"
[data]
cache = "{folder}/cache"
[[data.folders]]
path = "{folder}/pictures"
[train]
steps = 1
accumulate = 2
[preview]
at_start = false
[save]
every = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    return full_size_folder(tmp_path_factory, demo_folder)


@pytest.fixture(scope="module")
def base(folder: Path) -> Checkpoint:
    return open_checkpoint(folder / "random-sdxl.safetensors")


@pytest.fixture(scope="module")
def words(base: Checkpoint) -> Tokenizers:
    return load_tokenizers(None, base)


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    return {}


@pytest.fixture(scope="module")
def run(folder: Path, figures: dict[str, object]) -> RunDir:
    """One step over the whole UNet, its checkpoint and its export, the export's own memory watched."""
    profile = folder / "one-step.toml"
    profile.write_text(PROFILE.replace("{folder}", str(folder)))
    watching: list[PeakOfOwnMemory] = []

    def watch(event: events.Event) -> None:
        if isinstance(event, events.Phase) and event.name == "export":
            watching.append(PeakOfOwnMemory())
            watching[-1].__enter__()
        if isinstance(event, events.Saved) and event.kind == "export":
            watching[-1].__exit__(None, None, None)
            figures["export: seconds"] = round(event.seconds, 1)
            figures["export: extra GiB of own memory"] = round(watching[-1].bytes / GIB, 3)

    return run_here(profile, folder / "runs", watch=watch)


@pytest.fixture(scope="module")
def exported(run: RunDir) -> Checkpoint:
    (path,) = run.exports.glob("*.safetensors")
    return open_checkpoint(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.skipif(not can_be_measured(), reason="this kernel does not count a process's own memory")
def test_the_unet_loads_without_a_second_copy(base: Checkpoint, dtype: torch.dtype):
    began = time.monotonic()
    with PeakOfOwnMemory() as peak:
        unet = components.load_unet(base, "cpu", dtype)
    weights = sum(parameter.nbytes for parameter in unet.parameters())
    print(  # noqa: T201 - the figures are what this test is run for
        f"\nload {dtype}: {time.monotonic() - began:.1f} s, peak {peak.bytes / GIB:.2f} GiB of own memory for "
        f"{weights / GIB:.2f} GiB of weights: {peak.bytes / weights:.3f} x"
    )
    assert peak.bytes <= 1.15 * weights


def test_the_export_is_the_base_but_for_the_unet(base: Checkpoint, exported: Checkpoint, figures: dict[str, object]):
    names = set(json.loads(NAMES.read_text()))
    assert set(exported.header.tensors) == names | {"v_pred", "ztsnr"} and len(names) == 2515
    moved = 0
    for name, before in base.header.tensors.items():
        after = exported.header.tensors[name]
        assert (after.dtype, after.shape) == (before.dtype, before.shape), name
        same = raw(exported, name) == raw(base, name)
        moved += not same
        assert same or name.startswith(UNET_PREFIX), name
    assert moved > 1000  # fp16 keeps one step of 1e-6 in most tensors, not in all
    figures["export: UNet tensors that moved"] = moved
    print(figures)  # noqa: T201
    if can_be_measured():
        assert float(str(figures["export: extra GiB of own memory"])) <= 1e9 / GIB


def test_diffusers_reads_the_same_model(
    run: RunDir, base: Checkpoint, exported: Checkpoint, words: Tokenizers, folder: Path
):
    configs = folder / "configs"
    began = time.monotonic()
    if not configs.exists():
        untrained = Trained(unet={}, dtype=None, prediction_type="v_prediction", zero_terminal_snr=True, metadata={})
        first, second = ((files.vocabulary, files.merges) for files in words.files)
        export_diffusers(base, untrained, configs, vocabularies=(first, second))
    print(f"\ndiffusers folder: {time.monotonic() - began:.1f} s")  # noqa: T201
    theirs = StableDiffusionXLPipeline.from_single_file(
        exported.path, config=str(configs), local_files_only=True, torch_dtype=torch.float32
    ).to("cuda")
    prompt = "1girl, solo, aozora (series), 青空, very awa, masterpiece"
    context, _, pooled, _ = theirs.encode_prompt(prompt, device="cuda", do_classifier_free_guidance=False)
    encoders = components.load_text_encoders(base, "cuda", torch.float32)
    with torch.no_grad():
        our_context, our_pooled = (part[None] for part in text.encode(encoders, words, prompt))
    print(  # noqa: T201
        f"prompt: max |difference| context {(context - our_context).abs().max():.3g}, "
        f"pooled {(pooled - our_pooled).abs().max():.3g}, their own size {context.abs().max():.3g}"
    )
    torch.testing.assert_close(context, our_context, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pooled, our_pooled, rtol=1e-4, atol=1e-4)

    ours = components.load_unet(base, "cuda", torch.float32)
    masters = load_file(run.checkpoints / "step-000001" / "weights.safetensors", device="cuda")
    noisy = torch.randn(1, 4, 96, 128, generator=torch.Generator().manual_seed(0)).cuda()
    sizes = torch.tensor([[768.0, 1024.0, 0.0, 0.0, 768.0, 1024.0]], device="cuda")
    added = {"text_embeds": our_pooled, "time_ids": sizes}

    def answer(unet: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return unet(noisy, 617, our_context, added_cond_kwargs=added).sample

    their_answer = answer(theirs.unet)
    for what, rounded in (("as exported, fp16", True), ("fp32 masters", False)):
        state = {name: master.half().float() if rounded else master for name, master in masters.items()}
        ours.load_state_dict(state, strict=True)
        difference = (their_answer - answer(ours)).abs().max().item()
        print(f"UNet, {what}: max |difference| {difference:.3g} of {their_answer.abs().max():.3g}")  # noqa: T201
        if rounded:
            assert difference <= 1e-4 * their_answer.abs().max().item()


def test_what_encoding_a_picture_costs(base: Checkpoint):
    """Peak of the card over what the VAE's weights take, by size, precision and tiling."""
    for dtype in (torch.float32, torch.bfloat16):
        for tiled in (False, True):
            vae = components.load_vae(base, "cuda", dtype, tiled=tiled)
            for width, height in ((512, 512), (1024, 1024), (1536, 1024), (1536, 1536)):
                picture = torch.zeros(1, 3, height, width)
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                began = time.monotonic()
                latents.encode_posterior(vae, picture)
                torch.cuda.synchronize()
                peak = torch.cuda.max_memory_allocated() - before
                print(  # noqa: T201
                    f"encode {dtype} tiled={tiled} {width}x{height}: {peak / GIB:.3f} GiB, "
                    f"{peak / width / height:.0f} bytes a pixel, {time.monotonic() - began:.2f} s"
                )
            del vae
            torch.cuda.empty_cache()


def test_how_long_fingerprints_take(base: Checkpoint):
    for part in ("unet", "vae", "text"):
        began = time.monotonic()
        fingerprint(base, part)
        print(f"fingerprint of {part}: {time.monotonic() - began:.1f} s")  # noqa: T201


def test_the_run_took_its_step(run: RunDir):
    (step,) = of_type(run, events.Step)
    assert step.loss > 0 and step.grad_norm > 0

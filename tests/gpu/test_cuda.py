"""On a card: the demo in bf16, and the whole UNet at its full size. `pytest -m gpu -s tests/gpu` prints the figures."""

import gc
import statistics
import time
from pathlib import Path

import pytest
import torch

from engine.contract import events, rundir
from engine.contract.check import check_file
from tests.end_to_end.harness import all_events, copy_pictures, exported, of_type, run_here, write_profile
from tests.gpu.random_sdxl import full_size_folder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
    pytest.mark.timeout(900),
]

FULL_SIZE = """
[model]
base = "{folder}/random-sdxl.safetensors"
[data]
resolution = 1024
cache = "{folder}/cache"
[[data.folders]]
path = "{folder}/pictures"
[objective]
ip_noise_gamma = 0.1
[train]
steps = 4
accumulate = 4
batch_size = {batch_size}
[optimizer]
learning_rate = 8e-7
[memory]
plan = "plain"
checkpointing = {checkpointing}
[preview]
prompts = ["a red circle"]
at_start = true
width = 832
height = 1216
sampler_steps = 4
[save]
every = 0
keep = 1
export = {export}
"""


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_resuming_on_the_card_is_bitwise_with_deterministic_kernels(
    tmp_path: Path, demo_folder: Path, precision: str, deterministic: None
):
    copy_pictures(demo_folder, tmp_path / "pictures")
    profile = write_profile(tmp_path, demo_folder, steps=6, precision=precision)
    profile.write_text(profile.read_text().replace('device = "cpu"', 'device = "cuda"'))
    straight = run_here(profile, tmp_path / "runs")
    broken = rundir.create(tmp_path / "runs", "broken")
    run_here(profile, tmp_path / "runs", run=broken, stop_after_step=3)
    assert all_events(broken)[-1].reason == "stopped"
    run_here(profile, tmp_path / "runs", run=broken)
    ours, theirs = exported(broken), exported(straight)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize(("checkpointing", "batch_size"), [("true", 1), ("false", 1)])
def test_the_whole_unet_at_full_size(
    tmp_path_factory: pytest.TempPathFactory,
    demo_folder: Path,
    checkpointing: str,
    batch_size: int,
    capsys: pytest.CaptureFixture[str],
):
    folder = full_size_folder(tmp_path_factory, demo_folder)
    profile = folder / f"full-{checkpointing}.toml"
    text = FULL_SIZE.replace("{folder}", str(folder)).replace("{demo}", str(demo_folder))
    text = text.replace("{checkpointing}", checkpointing).replace("{batch_size}", str(batch_size))
    profile.write_text(text.replace("{export}", "true" if (checkpointing, batch_size) == ("true", 1) else "false"))
    gc.collect()  # what an earlier run in this process left
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    run = run_here(profile, folder / "runs")
    steps = of_type(run, events.Step)
    assert [step.step for step in steps] == [1, 2, 3, 4]
    checked = check_file(profile)
    assert checked.forecast is not None
    forecast = checked.forecast.device - checked.forecast.overhead  # torch does not see its own context
    peak = max(step.memory_peak for step in steps)
    assert peak / forecast == pytest.approx(1, rel=0.05), (peak / 2**30, forecast / 2**30)
    assert "preview-failed" not in [event.code for event in of_type(run, events.Warned)]
    phases = [(event.name, round(event.time - all_events(run)[0].time, 1)) for event in of_type(run, events.Phase)]
    with capsys.disabled():
        report = {
            "card": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "checkpointing": checkpointing,
            "s/micro-batch incl. update, median": round(statistics.median(step.seconds for step in steps[1:]), 4),
            "batch size": batch_size,
            "forecast GiB without context": round(forecast / 2**30, 2),
            "peak GiB allocated": round(peak / 2**30, 2),
            "reserved GiB": round(max(step.memory_reserved for step in steps) / 2**30, 2),
            "losses": [round(step.loss, 4) for step in steps],
            "grad norms": [round(step.grad_norm, 4) for step in steps],
            "saved": [(event.kind, event.bytes, round(event.seconds, 1)) for event in of_type(run, events.Saved)],
            "phases": phases,
            "whole run s": round(time.monotonic() - began, 1),
        }
        for key, value in report.items():
            print(f"{key}: {value}")  # noqa: T201 - the figures are what this test is run for

"""The main job as a person does it: the demo started from the home screen by keys, the terminal lost, the run found
again, stopped, resumed and finished; then a look at what it left."""

import os
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from engine.contract import events, rundir
from engine.contract.buckets import Bucket, Placement
from engine.contract.rundir import RunDir
from engine.contract.sections import Objective as Settings
from engine.memory.micro_step import predict
from engine.memory.plan import Embedded, MicroBatch
from engine.model.components import load_unet, load_vae, unet_config
from engine.model.latents import encode_posterior, load_image
from engine.model.single_file import Checkpoint, open_checkpoint
from engine.objective.objective import Objective, Question
from tests.end_to_end.harness import all_events, of_type
from tests.end_to_end.terminal import Terminal


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment of its own: nothing of the person who runs the tests is read or written."""
    root = tmp_path_factory.mktemp("home")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AOZORA_", "TEXTUAL"))}
    return environment | {
        "AOZORA_DATA": str(root / "data"),
        "AOZORA_CACHE": str(root / "cache"),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
    }


def at_step(least: int) -> Callable[[str], bool]:
    def seen(screen: str) -> bool:
        found = re.search(r"step\s+(\d+)/48", screen)
        return found is not None and int(found[1]) >= least

    return seen


@pytest.fixture(scope="module")
def run(places: dict[str, str]) -> RunDir:
    """The demo's run, after the whole walk."""

    def open_app() -> Terminal:
        return Terminal([sys.executable, "-m", "aozora_tui"], places)

    runs = Path(places["AOZORA_DATA"]) / "runs"
    terminal = open_app()
    terminal.wait_for("demo")
    terminal.press("D")
    terminal.wait_for(at_step(3), 90)
    assert terminal.cut() == 0
    (run,) = rundir.all_runs(runs)
    assert rundir.state(run) == "running"

    terminal = open_app()
    assert "running" in terminal.wait_for(run.name)
    terminal.read(1.0)  # whatever is still being painted
    terminal.press("\r")  # a live run is where the cursor starts
    terminal.wait_for(at_step(8), 90)
    terminal.press("s")
    terminal.wait_for("checkpoint")
    terminal.press("\r")
    terminal.wait_for("stopped", 30)
    assert rundir.state(run) == "stopped"
    terminal.press("r")
    terminal.wait_for("finished", 150)
    terminal.press("q")
    assert terminal.exit_code() == 0
    return run


def test_the_walk_ends_with_a_finished_run_of_two_starts(run: RunDir):
    started = of_type(run, events.Started)
    assert rundir.state(run) == "finished" and len(started) == 2 and 8 <= started[1].step < 48
    assert [event.step for event in of_type(run, events.Step)] == list(range(1, 49))
    assert isinstance(all_events(run)[-1], events.Finished)


def test_the_loss_falls_over_averaged_windows(run: RunDir):
    """Measured: 0.22 over the first twelve steps, 0.14 over the last twelve (0.62 of it)."""
    losses = [event.loss for event in of_type(run, events.Step)]
    first, last = statistics.fmean(losses[:12]), statistics.fmean(losses[-12:])
    assert last < 0.75 * first, (first, last)


def test_the_export_knows_the_pictures_better_than_the_base_does(run: RunDir, places: dict[str, str]):
    """The same forty questions to both networks, so that chance has no part in it. Measured: 0.350 and 0.142."""
    demo = Path(places["AOZORA_DATA"]) / "demo"
    base = open_checkpoint(demo / "aozora-demo.safetensors")
    vae = load_vae(base, "cpu")
    placement = Placement(Bucket(160, 160), (160, 160), (0, 0))
    pictures = [load_image(path, placement, (255, 255, 255)) for path in sorted((demo / "pictures").glob("*.png"))]
    question = Objective(Settings(ip_noise_gamma=0.1), seed=7, window=1).ask(
        encode_posterior(vae, torch.stack(pictures))[0], range(40)
    )
    (exported,) = run.exports.glob("*.safetensors")
    before, after = (mean_loss(open_checkpoint(path), question) for path in (base.path, exported))
    assert after < 0.6 * before, (before, after)


def mean_loss(checkpoint: Checkpoint, question: Question) -> float:
    """Without captions: an empty context and a square picture."""
    config, count = unet_config(checkpoint.header), len(question.timesteps)
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    micro = MicroBatch(
        noisy_latents=question.noisy_latents,
        network_time=question.network_time,
        condition=Embedded(torch.zeros(count, 77, config["cross_attention_dim"]), torch.zeros(count, pooled)),
        time_ids=torch.tensor([[256.0, 256.0, 0.0, 0.0, 160.0, 160.0]] * count),
    )
    with torch.no_grad():
        return question.losses(predict(load_unet(checkpoint, "cpu", torch.float32), micro)).mean().item()


def test_it_draws_at_the_start_and_the_end_and_saves_in_the_middle(run: RunDir):
    assert {event.step for event in of_type(run, events.Sampled)} == {0, 48}
    saved = {(event.kind, event.step) for event in of_type(run, events.Saved)}
    assert {("checkpoint", 24), ("checkpoint", 48), ("export", 48)} <= saved


def test_it_has_forty_pictures_in_at_least_five_shapes(run: RunDir, places: dict[str, str]):
    from PIL import Image

    pictures = sorted((Path(places["AOZORA_DATA"]) / "demo" / "pictures").glob("*.png"))
    shapes = set()
    for path in pictures:
        assert path.with_suffix(".txt").read_text().strip()
        with Image.open(path) as picture:
            shapes.add(round(picture.width / picture.height, 2))
    assert len(pictures) == 40 and len(shapes) >= 5 and 1.78 in shapes


def test_the_export_answers_as_diffusers_own_unet_does(run: RunDir):
    """diffusers reads the published names with its own converter; both networks must give the same answer."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from safetensors.torch import load_file

    (path,) = run.exports.glob("*.safetensors")
    checkpoint = open_checkpoint(path)
    config = unet_config(checkpoint.header)
    theirs = UNet2DConditionModel(**config)
    published = {k: v for k, v in load_file(path).items() if k.startswith("model.diffusion_model.")}
    theirs.load_state_dict(convert_ldm_unet_checkpoint(published, theirs.config))
    ours = load_unet(checkpoint, "cpu", torch.float32)
    latents = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    context = torch.randn(1, 77, config["cross_attention_dim"], generator=torch.Generator().manual_seed(1))
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    added = {"text_embeds": torch.ones(1, pooled), "time_ids": torch.ones(1, 6)}
    with torch.no_grad():
        answers = [unet(latents, 500, context, added_cond_kwargs=added).sample for unet in (ours, theirs)]
    assert torch.equal(*answers) and answers[0].std() > 0

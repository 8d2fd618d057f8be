"""Real photographs, a profile written by hand, the command line: to previews and an exported file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import skimage
from PIL import Image

from engine.contract import events, rundir
from engine.contract.check import check_file
from tests.end_to_end.harness import of_type

CAPTIONS = {
    "astronaut.png": "a woman in an orange space suit, smiling, flags behind her",
    "chelsea.png": "a tabby cat, close up",
    "coffee.png": "a cup of coffee on a wooden table",
    "rocket.jpg": "a rocket on its launch pad at night",
    "hubble_deep_field.jpg": "galaxies, deep sky",
    "retina.jpg": "the retina of an eye",
    "motorcycle_left.png": "a motorcycle in a workshop",
    "camera.png": "a photographer with a tripod, monochrome",
    "coins.png": "old coins, monochrome",
}

PROFILE = """
# Nine photographs on the demo's checkpoint.
[model]
base = "{demo}/aozora-demo.safetensors"
tokenizer = "{demo}/tokenizer"
precision = "bf16"

[data]
resolution = 96
bucket_step = 32

[[data.folders]]
path = "photographs"

[train]
steps = 3
accumulate = 2

[optimizer]
learning_rate = 1e-3

[memory]
device = "cpu"
threads = 1

[preview]
prompts = ["a tabby cat", "a rocket at night"]
width = 96
height = 64
sampler_steps = 2
every = 2
"""


def test_a_folder_of_photographs_becomes_an_exported_file(tmp_path: Path, demo_folder: Path):
    photographs = tmp_path / "photographs" / "nested"
    photographs.mkdir(parents=True)
    for name, caption in CAPTIONS.items():
        shutil.copy(Path(skimage.__file__).parent / "data" / name, photographs)
        (photographs / name).with_suffix(".txt").write_text(caption)
    profile = tmp_path / "photographs.toml"
    profile.write_text(PROFILE.replace("{demo}", str(demo_folder)))
    assert check_file(profile).ok
    environment = os.environ | {
        "AOZORA_DATA": str(tmp_path / "data"),
        "AOZORA_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "aozora_tui", "train", str(profile), "--plain"]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = rundir.all_runs(tmp_path / "data" / "runs")
    (exported,) = run.exports.iterdir()
    assert "step 3/3" in done.stdout and str(exported) in done.stdout
    sampled = of_type(run, events.Sampled)
    assert [(event.step, event.prompt) for event in sampled] == [
        (step, prompt) for step in (0, 2, 3) for prompt in ("a tabby cat", "a rocket at night")
    ]
    for event in sampled:
        with Image.open(run.path / event.path) as picture:
            assert picture.size == (96, 64)

"""The same run from every form of a base, and into every form of an export."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from engine.contract import events, rundir
from engine.contract.rundir import RunDir
from engine.contract.safetensors_header import VAE_PREFIX, read_header
from engine.contract.unet_names import UNET_PREFIX
from engine.model.single_file import open_checkpoint, raw
from engine.run.finish import _moved_away
from tests.end_to_end.harness import FEW, all_events, copy_pictures, exported, of_type, run_here, write_profile

STEPS = 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    home = tmp_path_factory.mktemp("forms")
    copy_pictures(demo_folder, home / "pictures")
    return home


def train(home: Path, demo: Path, name: str, *changes: tuple[str, str]) -> RunDir:
    """The small profile with some of its text replaced, run to its end."""
    profile = write_profile(home, demo, steps=STEPS, accumulate=1, name=name)
    text = profile.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    profile.write_text(text)
    return run_here(profile, home / "runs", run=rundir.create(home / "runs", name))


@pytest.fixture(scope="module")
def single(home: Path, demo_folder: Path) -> RunDir:
    return train(home, demo_folder, "single")


@pytest.fixture(scope="module")
def as_folder(home: Path, demo_folder: Path) -> RunDir:
    return train(home, demo_folder, "folder", ("[save]", '[save]\nexport_format = "diffusers"'))


def folder_of(run: RunDir) -> Path:
    saved = [event for event in of_type(run, events.Saved) if event.kind == "export"][-1]
    return run.path / saved.path


def test_the_folder_is_a_pipeline_with_the_same_weights(single: RunDir, as_folder: RunDir):
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder_of(as_folder), local_files_only=True)
    folder, file = open_checkpoint(folder_of(as_folder)), exported(single)
    ours = folder.unet()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in pipeline.unet.state_dict().items())
    assert all(torch.equal(folder.tensor(name), file[name]) for name in file if name.startswith(UNET_PREFIX))
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler.config.rescale_betas_zero_snr


def test_a_folder_as_the_base_trains_the_same(home: Path, demo_folder: Path, as_folder: RunDir, single: RunDir):
    """From a folder that holds what the demo's file holds: the same latents, the same steps, the same weights."""
    from engine.model.export import Trained
    from engine.model.export_diffusers import export_diffusers
    from engine.model.tokenizers import load_tokenizers

    base = open_checkpoint(demo_folder / "aozora-demo.safetensors")
    words = load_tokenizers(demo_folder / "tokenizer", base)
    first, second = ((files.vocabulary, files.merges) for files in words.files)
    untrained = Trained(unet={}, dtype=None, prediction_type="v_prediction", zero_terminal_snr=True, metadata={})
    export_diffusers(base, untrained, home / "base-folder", vocabularies=(first, second))
    # The tokenizer comes out of the folder too.
    changes = [
        (f'"{demo_folder / "aozora-demo.safetensors"}"', f'"{home / "base-folder"}"'),
        (f'tokenizer = "{demo_folder}/tokenizer"', ""),
    ]
    run = train(home, demo_folder, "from-folder", *changes)
    ours, theirs = exported(run), exported(single)
    trained = [name for name in theirs if name.startswith(UNET_PREFIX)]
    assert trained and all(torch.equal(ours[name], theirs[name]) for name in trained)
    # Nothing was encoded again: both hold the same encoders.
    assert all(event.total == 0 for event in of_type(run, events.Progress) if event.phase == "cache")
    assert open_checkpoint(run.path / folder_of(run)).kind.prediction_type == "v_prediction"


def test_the_unet_alone_loads_in_diffusers(home: Path, demo_folder: Path, single: RunDir, as_folder: RunDir):
    run = train(home, demo_folder, "unet", ("[save]", '[save]\nexport_format = "unet"'))
    path = folder_of(run)
    names = read_header(path).tensors
    assert all(name.startswith(UNET_PREFIX) or name in ("v_pred", "ztsnr") for name in names)
    loaded = UNet2DConditionModel.from_single_file(
        path, config=str(folder_of(as_folder)), subfolder="unet", local_files_only=True
    ).state_dict()
    ours = open_checkpoint(folder_of(as_folder)).unet()
    assert loaded.keys() == ours.keys() and all(torch.equal(loaded[name], ours[name]) for name in ours)


def test_another_vae_encodes_and_is_exported(home: Path, demo_folder: Path, single: RunDir):
    base = load_file(demo_folder / "aozora-demo.safetensors")
    other = {name.removeprefix(VAE_PREFIX): tensor for name, tensor in base.items() if name.startswith(VAE_PREFIX)}
    other["quant_conv.bias"] = other["quant_conv.bias"] + 1.0
    save_file(other, home / "other-vae.safetensors")
    run = train(home, demo_folder, "vae", ("[model]", f'[model]\nvae = "{home / "other-vae.safetensors"}"'))
    export = exported(run)
    assert all(torch.equal(export[VAE_PREFIX + name], tensor) for name, tensor in other.items())
    assert [step.loss for step in of_type(run, events.Step)] != [step.loss for step in of_type(single, events.Step)]
    metadata = read_header(folder_of(run)).metadata
    assert metadata["aozora.base"] == "aozora-demo.safetensors"


def test_the_export_tells_where_it_comes_from(single: RunDir, demo_folder: Path):
    import hashlib

    header = read_header(folder_of(single))
    digest = hashlib.sha256((demo_folder / "aozora-demo.safetensors").read_bytes()).hexdigest()
    assert header.metadata["aozora.base_sha256"] == digest
    assert header.metadata["aozora.steps"] == str(STEPS) and header.metadata["aozora.pictures"] == "5"
    assert json.loads(header.metadata["aozora.objective"])["null_condition"] == "empty_prompt"
    assert folder_of(single).stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask"))
    return int(line.split()[1], 8)


def test_an_export_that_a_crash_left_gives_way_to_the_new_one(home: Path, demo_folder: Path, as_folder: RunDir):
    """The run was cut off between the export and its last word: the resume writes it again."""
    before = folder_of(as_folder)
    (before / "unet" / "config.json").write_text("{}")
    run_here(home / "folder.toml", home / "runs", run=as_folder)
    assert isinstance(all_events(as_folder)[-1], events.Finished)
    assert json.loads((before / "unet" / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"
    assert [path.name for path in as_folder.exports.iterdir()] == [before.name]


def test_an_export_moved_away_by_a_killed_run_comes_back_if_there_is_no_new_one(home: Path, as_folder: RunDir):
    target = folder_of(as_folder)
    target.rename(target.with_name(f".{target.name}.old"))  # what a kill between the two renames leaves
    run_here(home / "folder.toml", home / "runs", run=as_folder, stop_at=1)
    with pytest.raises(ZeroDivisionError), _moved_away(target) as here:
        assert not here.exists()
        raise ZeroDivisionError
    assert (target / "model_index.json").is_file() and [path.name for path in as_folder.exports.iterdir()] == [
        target.name
    ]


def test_exports_may_lie_on_another_disk(home: Path, demo_folder: Path):
    run = rundir.create(home / "runs", "elsewhere")
    (home / "disk").mkdir()
    run.exports.rmdir()
    run.exports.symlink_to(home / "disk")
    profile = write_profile(home, demo_folder, steps=1, accumulate=1, layers=FEW, name="elsewhere")
    run_here(profile, home / "runs", run=run)
    assert isinstance(all_events(run)[-1], events.Finished)
    assert folder_of(run).is_file() and folder_of(run).resolve().parent == (home / "disk").resolve()


def test_bytes_that_nobody_trained_are_the_bases_and_no_others(single: RunDir, demo_folder: Path):
    """Of a run that trains the whole UNet."""
    base, export = open_checkpoint(demo_folder / "aozora-demo.safetensors"), open_checkpoint(folder_of(single))
    for name in base.header.tensors:
        assert (raw(base, name) == raw(export, name)) is not name.startswith(UNET_PREFIX), name

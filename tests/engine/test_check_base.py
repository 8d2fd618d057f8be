"""What a check says of the base checkpoint and its VAE before a run starts."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract.check import check_file, check_text
from engine.contract.problems import Problem
from engine.contract.safetensors_header import read_header

MARKERS = ("v_pred", "ztsnr")


@pytest.fixture
def check(demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Checks a profile of this base, and gives the problems of model.base, model.vae and the objective by path."""
    monkeypatch.setenv("AOZORA_RUNS", str(tmp_path / "runs"))

    def check(
        base: Path,
        *,
        vae: Path | None = None,
        prediction_type: str = "v_prediction",
        ztsnr: bool = True,
        save: str = "",
    ):
        profile = tmp_path / "profile.toml"
        profile.write_text(
            f'[model]\nbase = "{base}"\ntokenizer = "{demo_folder}/tokenizer"\n'
            + (f'vae = "{vae}"\n' if vae else "")
            + f'[data]\ncache = "{tmp_path}/cache"\n[[data.folders]]\npath = "{demo_folder}/pictures"\n'
            + f'[objective]\nprediction_type = "{prediction_type}"\nzero_terminal_snr = {str(ztsnr).lower()}\n'
            + f"[save]\n{save}\n"
        )
        problems = check_file(profile).problems
        assert {problem.path.partition(".")[0] for problem in problems} <= {"model", "objective"}
        return list(problems)

    return check


@pytest.fixture
def base(demo_checkpoint: Path, tmp_path: Path):
    """The demo's checkpoint with other markers and metadata."""

    def write(*markers: str, **metadata: str) -> Path:
        tensors = {name: tensor for name, tensor in load_file(demo_checkpoint).items() if name not in MARKERS}
        said = {"aozora.architecture": read_header(demo_checkpoint).metadata["aozora.architecture"]}
        said |= {key.replace("__", "."): value for key, value in metadata.items()}
        path = tmp_path / "base.safetensors"
        save_file(tensors | {name: torch.empty(0) for name in markers}, path, metadata=said)
        return path

    return write


def test_a_profile_that_agrees_with_its_base_is_not_warned(check, base, demo_diffusers):
    assert check(base("v_pred", "ztsnr")) == []
    assert check(demo_diffusers) == []
    assert check(base(), prediction_type="epsilon", ztsnr=False) == []
    assert check(base("v_pred"), ztsnr=False) == []


def test_another_prediction_type_is_a_warning_that_names_both(check, base):
    (found,) = check(base())
    assert found == Problem(
        "objective.prediction_type",
        "the profile trains v_prediction, but base.safetensors announces epsilon (no marker: epsilon is assumed, as "
        "ComfyUI does); the export will carry the profile's markers, so ComfyUI will sample it as v_prediction: "
        "pictures come out as noise until the run has been long enough to convert it",
        "Write epsilon unless you mean to convert it.",
        "warning",
    )
    (found,) = check(base("v_pred", "ztsnr"), prediction_type="epsilon", ztsnr=False)
    assert "trains epsilon, but base.safetensors announces v_prediction (the v_pred and ztsnr markers)" in found.text


def test_what_the_base_announces_comes_before_what_the_settings_contradict(check, base):
    """A v-pred base under a profile that says epsilon: the first sentence is the cause of the second."""
    first, second, *_ = check(base("v_pred", "ztsnr"), prediction_type="epsilon", ztsnr=True)
    assert first.path == "objective.prediction_type" and "announces v_prediction" in first.text
    assert second.path == "objective.zero_terminal_snr" and second.severity == "error"


def test_a_profile_that_is_wrong_elsewhere_still_says_what_its_base_is(base, demo_folder, tmp_path):
    text = f"""[model]\nbase = "{base("v_pred", "ztsnr")}"\ntokenizer = "{demo_folder}/tokenizer"\n
        [[data.folders]]\npath = "{demo_folder}/pictures"\n[train]\nsteps = "many"\n"""
    checked = check_text(text, tmp_path / "profile.toml")
    assert checked.profile is None and checked.forecast is None
    assert checked.kind is not None and checked.kind.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    ("markers", "ztsnr", "says", "remedy"),
    [
        (("v_pred",), True, "with zero terminal SNR, but base.safetensors announces none (the v_pred marker)", "false"),
        (
            ("v_pred", "ztsnr"),
            False,
            "without zero terminal SNR, but base.safetensors announces it (the v_pred and ztsnr markers)",
            "true",
        ),
    ],
)
def test_another_zero_terminal_snr_is_a_warning_that_names_both(check, base, markers, ztsnr, says, remedy):
    (found,) = check(base(*markers), ztsnr=ztsnr)
    assert (found.path, found.severity) == ("objective.zero_terminal_snr", "warning")
    assert says in found.text and "so ComfyUI will" in found.text
    assert found.remedy == f"Write {remedy} unless you mean to convert it."


def test_a_base_that_contradicts_itself_is_a_warning(check, base):
    found = check(base(modelspec__prediction_type="v"), ztsnr=False)
    assert found == [
        Problem(
            "model.base",
            "base.safetensors announces v_prediction (modelspec.prediction_type in its metadata), but its marker keys "
            "say epsilon: ComfyUI reads only those, and has been sampling it as epsilon",
            "Find out which is true: in ComfyUI, a ModelSamplingDiscrete node set to v_prediction samples as "
            "announced.",
            "warning",
        )
    ]
    (found,) = check(base("v_pred", aozora__prediction_type="epsilon"), prediction_type="epsilon", ztsnr=False)
    assert "has been sampling it as v_prediction" in found.text and "set to eps " in found.remedy


def test_flow_is_a_warning_since_no_marker_says_it(check, base):
    (found,) = check(base(aozora__prediction_type="flow"), prediction_type="flow", ztsnr=False)
    assert found == Problem(
        "objective.prediction_type",
        "no marker says rectified flow: ComfyUI and A1111 will take the export for epsilon, and draw noise",
        "In ComfyUI, put a ModelSamplingSD3 node between the checkpoint and the sampler.",
        "warning",
    )
    both = check(base(), prediction_type="flow", ztsnr=False)
    assert [problem.severity for problem in both] == ["warning"] * 2
    assert "the profile trains flow, but base.safetensors announces epsilon" in both[0].text
    assert "ComfyUI will sample" not in both[0].text


@pytest.mark.parametrize(
    ("markers", "prediction_type", "ztsnr"),
    [
        ((), "v_prediction", True),
        ((), "flow", False),
        (("v_pred",), "v_prediction", True),
        (("v_pred", "ztsnr"), "v_prediction", False),
    ],
)
def test_a_warning_promises_no_export_that_there_will_not_be(check, base, markers, prediction_type, ztsnr):
    path = base(*markers)
    (none,) = check(path, prediction_type=prediction_type, ztsnr=ztsnr, save="export = false")
    assert "export" not in none.text and "; pictures " in none.text
    (folder,) = check(path, prediction_type=prediction_type, ztsnr=ztsnr, save='export_format = "diffusers"')
    assert "ComfyUI" not in folder.text.partition("; ")[2] and "marker" not in folder.text.partition("; ")[2]
    assert "the exported folder's scheduler will" in folder.text and "diffusers will" in folder.text
    unet = check(path, prediction_type=prediction_type, ztsnr=ztsnr, save='export_format = "unet"')
    assert unet == check(path, prediction_type=prediction_type, ztsnr=ztsnr)


def test_a_base_that_is_refused_is_one_problem(check, tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_mid.lora_down.weight": torch.zeros(1)}, path)
    assert check(path) == [
        Problem(
            "model.base",
            "lora.safetensors is a LoRA, an adapter and not a checkpoint: merge it into its base first",
            "",
        )
    ]
    (found,) = check(tmp_path)
    assert "is a folder without model_index.json" in found.text


def test_a_vae_is_checked_by_itself(check, base, demo_checkpoint, tmp_path):
    path, bare = tmp_path / "vae.safetensors", tmp_path / "bare.safetensors"
    tensors = load_file(demo_checkpoint)
    said = dict(read_header(demo_checkpoint).metadata)
    save_file({name: t for name, t in tensors.items() if not name.startswith("first_stage_model.")}, bare, said)
    save_file({name: t for name, t in tensors.items() if name.startswith("first_stage_model.")}, path)
    assert check(bare, vae=path) == check(base("v_pred", "ztsnr"), vae=path) == []
    (found,) = check(base("v_pred", "ztsnr"), vae=tmp_path / "none.safetensors")
    assert (found.path, found.text) == ("model.vae", f"{tmp_path / 'none.safetensors'} does not exist: check the path")
    shutil.copy(bare, path)
    assert [problem.path for problem in check(bare, vae=path)] == ["model.vae", "model.base"]

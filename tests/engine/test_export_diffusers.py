"""What diffusers makes of our exports, and our folder of it."""

import hashlib
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from engine.contract.safetensors_header import read_header
from engine.model.components import load_text_encoders, load_unet, load_vae
from engine.model.export import base_hash
from engine.model.single_file import Checkpoint, open_checkpoint
from engine.model.text import encode
from engine.model.tokenizers import load_tokenizers
from tests.engine.exports import assert_same, digests, exported, in_folder, narrowed, state_of

PROMPT = "a teal star and an orange ring on a white ground"


@pytest.fixture(scope="module")
def base(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


@pytest.fixture(scope="module")
def trained(base: Checkpoint) -> UNet2DConditionModel:
    """The model in memory after a training that changed all of its UNet."""
    unet = load_unet(base, "cpu", torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return unet


@pytest.fixture(scope="module")
def folder(
    base: Checkpoint, trained: UNet2DConditionModel, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The trained model as a diffusers folder; never written to."""
    return in_folder(base, tmp_path_factory.mktemp("out") / "model", demo_folder, unet=state_of(trained))


def assert_same_answer(ours: UNet2DConditionModel, theirs: UNet2DConditionModel, what: str) -> None:
    generator = torch.Generator().manual_seed(2)
    noisy, context, pooled = (
        torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 12), (2, 77, 80), (2, 48))
    )
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 96.0, 0.0, 8.0, 64.0, 96.0]]).repeat(2, 1)}
    with torch.no_grad():
        answers = [
            unet.eval()(noisy, torch.tensor([3, 999]), context, added_cond_kwargs=added).sample
            for unet in (ours, theirs)
        ]
    difference = (answers[0] - answers[1]).abs().max().item()
    print(f"{what}: max |difference| {difference:.3g} of {answers[0].abs().max():.3g}")  # noqa: T201
    assert answers[0].std() > 0.1 and difference <= 1e-6


def assert_same_prompt(encoders, base: Checkpoint, pipeline: StableDiffusionXLPipeline, demo_folder: Path) -> None:
    with torch.no_grad():
        context, pooled = (part[None] for part in encode(encoders, load_tokenizers(demo_folder, base), PROMPT))
    theirs, _, their_pooled, _ = pipeline.encode_prompt(PROMPT, device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(theirs, context, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(their_pooled, pooled, rtol=1e-5, atol=1e-5)


# What diffusers makes of it


@pytest.mark.parametrize("form", ["checkpoint", "unet"])
def test_diffusers_reads_the_model_that_was_in_memory(base, trained, folder, tmp_path, form):
    out = exported(base, tmp_path / "out.safetensors", form=form, unet=state_of(trained))
    theirs = UNet2DConditionModel.from_single_file(
        str(out), config=str(folder), subfolder="unet", local_files_only=True
    )
    assert_same(state_of(theirs), state_of(trained))
    assert_same_answer(trained, theirs, f"{form} file")


def test_a_pipeline_from_the_single_file_is_the_model_that_was_in_memory(base, trained, folder, demo_folder, tmp_path):
    encoders = load_text_encoders(base, "cpu", torch.float32)
    projection = {"text_projection.weight": torch.randn(48, 48)}
    encoders.text_encoder_2.load_state_dict(projection, strict=False)
    out = exported(base, tmp_path / "out.safetensors", unet=state_of(trained), text_encoder_2=projection)
    theirs = StableDiffusionXLPipeline.from_single_file(str(out), config=str(folder), local_files_only=True)
    assert_same_answer(trained, theirs.unet, "pipeline from the single file")
    assert_same_prompt(encoders, base, theirs, demo_folder)
    assert_same(state_of(theirs.vae), state_of(load_vae(base, "cpu")))


def test_a_pipeline_from_the_folder_is_the_model_that_was_in_memory(base, trained, folder, demo_folder):
    theirs = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    assert_same(state_of(theirs.unet), state_of(trained))
    assert_same_answer(trained, theirs.unet, "pipeline from the folder")
    encoders = load_text_encoders(base, "cpu", torch.float32)
    assert_same_prompt(encoders, base, theirs, demo_folder)
    assert_same(state_of(theirs.text_encoder), state_of(encoders.text_encoder))
    assert_same(state_of(theirs.text_encoder_2), state_of(encoders.text_encoder_2))
    vae = load_vae(base, "cpu")
    assert_same(state_of(theirs.vae), state_of(vae))
    assert theirs.vae.config.scaling_factor == vae.config.scaling_factor == 0.13025
    assert (theirs.tokenizer.pad_token, theirs.tokenizer_2.pad_token) == ("<|endoftext|>", "!")
    assert (theirs.tokenizer_2.pad_token_id, theirs.tokenizer_2.model_max_length) == (0, 77)
    assert theirs.config.force_zeros_for_empty_prompt is False
    scheduler = theirs.scheduler
    assert (scheduler.config.prediction_type, scheduler.config.timestep_spacing) == ("v_prediction", "trailing")
    scheduler.set_timesteps(28)
    assert int(scheduler.timesteps[0]) == 999
    assert float(scheduler.alphas_cumprod[0]) == pytest.approx(0.99915, abs=1e-7)  # SDXL's first beta
    assert float(scheduler.alphas_cumprod[998]) == pytest.approx(1.967888e-07, rel=1e-3)


@pytest.mark.parametrize(
    ("prediction_type", "scheduler", "said"),
    [
        ("epsilon", "EulerDiscreteScheduler", {"prediction_type": "epsilon", "timestep_spacing": "leading"}),
        ("flow", "DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "flow_shift": 1.0}),
    ],
)
def test_the_folder_draws_with_the_schedule_it_was_trained_on(
    base, demo_folder, tmp_path, prediction_type, scheduler, said
):
    out = in_folder(
        base,
        tmp_path / "model",
        demo_folder,
        prediction_type=prediction_type,
        zero_terminal_snr=False,
        null_condition="zeros",
    )
    pipeline = StableDiffusionXLPipeline.from_pretrained(out, local_files_only=True)
    assert type(pipeline.scheduler).__name__ == scheduler
    assert pipeline.scheduler.config.items() >= said.items()
    assert pipeline.config.force_zeros_for_empty_prompt is True
    pipeline.set_progress_bar_config(disable=True)
    times: list[float] = []
    pipeline.unet.register_forward_pre_hook(lambda module, given: times.append(float(given[1])))
    drawn = pipeline(PROMPT, width=64, height=64, num_inference_steps=4, output_type="latent").images
    assert drawn.shape == (1, 4, 8, 8) and bool(drawn.isfinite().all())
    if prediction_type == "flow":  # time 1000 t, from pure noise down; the flow from noise to a picture is straight
        assert times == pytest.approx([999, 749.25, 499.5, 249.75], abs=1)
        pipeline.scheduler.set_timesteps(4)
        noise, clean = torch.randn(2, 1, 4, 8, 8)
        sample = noise
        for time in pipeline.scheduler.timesteps:
            sample = pipeline.scheduler.step(noise - clean, time, sample).prev_sample
        torch.testing.assert_close(sample, clean, rtol=0, atol=0.01)


# The folder


def test_the_folder_holds_the_bases_untouched_values(demo_checkpoint, demo_folder, tmp_path):
    path = narrowed(demo_checkpoint, tmp_path / "base.safetensors")
    base = open_checkpoint(path)
    bias = torch.full((4,), 1 / 3)
    text_bias, projection = torch.full((32,), 0.7), torch.randn(48, 48)
    out = in_folder(
        base,
        tmp_path / "model",
        demo_folder,
        unet={"conv_out.bias": bias},
        text_encoder={"final_layer_norm.bias": text_bias},
        text_encoder_2={"text_projection.weight": projection},
        dtype=torch.float32,
        metadata={"aozora.steps": "7"},
    )
    files = {path.parent.name: path for path in out.glob("*/*.safetensors")}
    assert_same(load_file(files["unet"]), dict(base.unet()) | {"conv_out.bias": bias})
    assert_same(load_file(files["vae"]), base.vae())
    first = {f"text_model.{name}": tensor for name, tensor in base.text_encoder().items()}
    assert_same(load_file(files["text_encoder"]), first | {"text_model.final_layer_norm.bias": text_bias})
    second = dict(base.text_encoder_2()) | {"text_projection.weight": projection}
    assert_same(load_file(files["text_encoder_2"]), second)
    assert load_file(files["vae"])["decoder.mid_block.attentions.0.to_q.weight"].shape == (8, 8)
    described = read_header(files["unet"]).metadata
    assert described["aozora.steps"] == "7" and described["modelspec.title"] == "model"
    assert described["aozora.base_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


QUERY = "text_model.encoder.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("narrow", "dtype", "stored"),
    [(True, torch.float32, "F32"), (True, torch.bfloat16, "F32"), (False, torch.float16, "F32"), (True, None, "F16")],
)
@pytest.mark.parametrize("form", ["diffusers", "checkpoint"])
def test_a_query_trained_alone_is_stored_like_its_key_and_value_which_keep_their_values(
    demo_checkpoint, demo_folder, tmp_path, form, narrow, dtype, stored
):
    path = narrowed(demo_checkpoint, tmp_path / "base.safetensors") if narrow else demo_checkpoint
    base = open_checkpoint(path)
    trained = {"text_encoder_2": {QUERY: torch.randn(48, 48)}, "dtype": dtype}
    if form == "diffusers":
        out = in_folder(base, tmp_path / "model", demo_folder, **trained)
    else:
        out = exported(base, tmp_path / "model.safetensors", **trained)
    again = open_checkpoint(out)  # our own reader stacks the three again
    stack = "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj"
    assert again.header.tensors[f"{stack}_weight"].dtype == stored
    assert again.header.tensors[f"{stack}_bias"].dtype == base.header.tensors[f"{stack}_bias"].dtype
    ours, theirs = again.text_encoder_2(), base.text_encoder_2()
    for name in (QUERY.replace("q_proj", "k_proj"), QUERY.replace("q_proj", "v_proj")):
        assert torch.equal(ours[name].double(), theirs[name].double())
    assert not torch.equal(ours[QUERY].double(), theirs[QUERY].double())


def test_a_stack_trained_as_a_whole_is_stored_as_asked(base, demo_folder, tmp_path):
    trained = {QUERY.replace("q_proj", f"{part}_proj"): torch.randn(48, 48) for part in "qkv"}
    name = "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"
    for out in (
        in_folder(base, tmp_path / "model", demo_folder, text_encoder_2=trained, dtype=torch.float16),
        exported(base, tmp_path / "model.safetensors", text_encoder_2=trained, dtype=torch.float16),
    ):
        assert open_checkpoint(out).header.tensors[name].dtype == "F16"


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_narrow_folder_draws_in_the_dtype_asked_for_or_in_float32(demo_checkpoint, demo_folder, tmp_path, dtype):
    base = open_checkpoint(narrowed(demo_checkpoint, tmp_path / "base.safetensors"))
    trained = {"conv_out.bias": torch.full((4,), 0.3)}
    out = in_folder(base, tmp_path / "model", demo_folder, unet=trained, dtype=torch.bfloat16)
    pipeline = StableDiffusionXLPipeline.from_pretrained(out, local_files_only=True, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(PROMPT, width=64, height=64, num_inference_steps=2, output_type="latent").images
    assert drawn.dtype == (dtype or torch.float32) and bool(drawn.isfinite().all())


def test_the_folder_refuses_to_take_anothers_place(base, demo_folder, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        in_folder(base, tmp_path / "model", demo_folder)
    assert list((tmp_path / "model").iterdir()) == []


def test_a_checkpoint_exported_from_the_folder_is_the_single_file_again(base, demo_folder, tmp_path):
    out = open_checkpoint(in_folder(base, tmp_path / "model", demo_folder))
    back = exported(out, tmp_path / "back.safetensors")
    before, after = digests(base.path), digests(back)
    # Buffers that transformers' own models do not have.
    assert before.keys() - after.keys() == {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.1.model.logit_scale",
    }
    assert before.items() >= after.items()
    said, other = (
        base_hash(out),
        in_folder(base, tmp_path / "other", demo_folder, unet={"conv_in.bias": torch.ones(32)}),
    )
    assert read_header(back).metadata.items() >= said.items() and said["aozora.base"] == "model"
    assert base_hash(open_checkpoint(other))["aozora.base_fingerprint"] != said["aozora.base_fingerprint"]


def test_another_vae_is_carried_along_and_named(base, demo_checkpoint, demo_folder, tmp_path):
    half = open_checkpoint(narrowed(demo_checkpoint, tmp_path / "half.safetensors"))
    vae = in_folder(half, tmp_path / "half", demo_folder) / "vae"
    both = open_checkpoint(demo_checkpoint, vae)
    out = exported(both, tmp_path / "out.safetensors")
    start = "first_stage_model."
    wanted = {
        name: digest
        for source, of_vae in ((demo_checkpoint, False), (half.path, True))
        for name, digest in digests(source).items()
        if name.startswith(start) == of_vae
    }
    assert digests(out) == wanted
    described = read_header(out).metadata
    assert described["aozora.base_sha256"] == hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    file = vae / described["aozora.vae"]
    assert described["aozora.vae_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    again = open_checkpoint(in_folder(both, tmp_path / "again", demo_folder))
    assert_same(again.vae(), half.vae())

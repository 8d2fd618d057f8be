"""Two checkpoints beside each other. What changed is made here, from the demo checkpoint or by hand."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.contract.comparison import Comparison, Row, read_side
from engine.contract.safetensors_header import CheckpointError
from engine.contract.unet_names import UNET_PREFIX, to_diffusers
from engine.model import compare as module
from engine.model.compare import compare
from engine.model.single_file import open_checkpoint
from tests.end_to_end.harness import copy_pictures, run_here, write_profile
from tests.engine.exports import in_folder
from tests.engine.sparse import write_sparse

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def published(demo_checkpoint: Path) -> dict[str, Tensor]:
    return load_file(demo_checkpoint)


@pytest.fixture
def diff(tmp_path: Path) -> Callable[..., Comparison]:
    def of(a: dict[str, Tensor] | Path, b: dict[str, Tensor] | Path, **options: bool) -> Comparison:
        paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
        for place, side in enumerate((a, b)):
            if isinstance(side, Path):
                paths[place] = side
            else:
                save_file(side, paths[place])
        return compare(*paths, lambda *said: None, **options)

    return of


def trained(tensor: Tensor, relative: float = 0.02) -> Tensor:
    change = torch.randn(tensor.shape) * tensor.float().square().mean().sqrt() * relative
    return (tensor.float() + change).to(tensor.dtype)


def merged(tensor: Tensor, rank: int = 4, relative: float = 0.02) -> Tensor:
    change = torch.randn(tensor.shape[0], rank) @ torch.randn(rank, tensor[0].numel()) / rank**0.5
    size = tensor.float().square().mean().sqrt() * relative
    return (tensor.float() + change.view(tensor.shape) * size).to(tensor.dtype)


def is_attention(name: str) -> bool:
    return name.startswith(UNET_PREFIX) and ".attn" in name and name.endswith("weight")


def is_unet_matrix(name: str, tensor: Tensor) -> bool:
    return name.startswith(UNET_PREFIX) and tensor.ndim > 1


def row(found: Comparison, part: str, block: str = "", kind: str = "") -> Row:
    (one,) = [row for row in found.rows if (row.part, row.block, row.kind) == (part, block, kind)]
    return one


# -- what differs ------------------------------------------------------------------------------------------------------


def test_a_file_is_identical_to_itself(demo_checkpoint, diff):
    found = diff(demo_checkpoint, demo_checkpoint)
    assert found.identical
    assert not any(row.changed or row.recast for row in found.rows)
    assert [row.part for row in found.rows if not row.block and not row.kind] == [
        *("UNet", "VAE", "text encoder", "text encoder 2", "other")
    ]
    assert (found.rank.verdict, found.rank.examined) == ("none", 0)


def test_changes_are_counted_where_they_are(published, diff):
    name = f"{UNET_PREFIX}input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
    vae = "first_stage_model.decoder.conv_out.bias"
    after = published | {name: trained(published[name]), vae: published[vae] + 0.5}
    found = diff(published, after)
    place = row(found, "UNet", "down_blocks.1", "attn1")
    before, change = published[name].double(), after[name].double() - published[name].double()
    assert place.changed == 1
    assert place.elements_changed == int((change != 0).sum())
    assert place.relative_change == pytest.approx(float(change.norm() / before.norm()), rel=1e-6)
    assert place.max_abs == pytest.approx(float(change.abs().max()), rel=1e-6)
    for above in (row(found, "UNet"), row(found, "UNet", "down_blocks.1"), row(found, "UNet", kind="attn1")):
        assert (above.changed, above.relative_change) == (1, place.relative_change)
    assert sum(row.changed for row in found.rows if row.block and row.kind) == 1
    assert row(found, "VAE").max_abs == 0.5
    assert row(found, "text encoder").changed == 0


def test_blocks_and_kinds_add_up_to_the_unet_in_the_forward_pass_s_order(demo_checkpoint, diff):
    rows = [row for row in diff(demo_checkpoint, demo_checkpoint).rows if row.part == "UNet"]
    blocks = [row for row in rows if row.block and not row.kind]
    kinds = [row for row in rows if row.kind and not row.block]
    assert [row.block for row in blocks] == [
        *("conv_in", "time_embedding", "add_embedding", "down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block"),
        *("up_blocks.0", "up_blocks.1", "up_blocks.2", "conv_norm_out", "conv_out"),
    ]
    assert [row.kind for row in kinds] == [
        *("attn1", "attn2", "ff", "norms", "projections", "resnets", "samplers", "embeddings", "in and out")
    ]
    both = [row for row in rows if row.kind and row.block]
    for group in (blocks, kinds, both):
        assert sum(row.tensors for row in group) == rows[0].tensors
        assert sum(row.elements for row in group) == rows[0].elements


def test_names_and_shapes_that_differ_are_listed(published, diff):
    name = f"{UNET_PREFIX}out.2.weight"
    after = dict(published) | {name: published[name].transpose(0, 1).contiguous(), "new": torch.ones(1)}
    del after["v_pred"], after["ztsnr"]
    found = diff(published, after)
    assert not found.identical
    assert (found.only_a.first, found.only_b.first) == (("v_pred", "ztsnr"), ("new",))
    (one,) = found.reshaped
    assert (one.name, one.a, one.b) == (name, tuple(published[name].shape), tuple(after[name].shape))
    assert (found.a.prediction_type, found.a.zero_terminal_snr) == ("v_prediction", True)
    assert (found.b.prediction_type, found.b.zero_terminal_snr) == ("epsilon", False)


def test_metadata_is_compared_key_by_key(published, tmp_path, diff):
    for name, metadata in (("one", {"same": "x", "title": "A"}), ("two", {"same": "x", "title": "B", "more": "y"})):
        save_file(published, tmp_path / name, metadata)
    found = diff(tmp_path / "one", tmp_path / "two")
    assert found.identical
    assert [(one.key, one.a, one.b) for one in found.metadata] == [("more", None, "y"), ("title", "A", "B")]


def test_a_copy_in_another_type_is_no_change(published, diff):
    half = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in published.items()}
    for one, other in ((published, half), (half, published)):
        found = diff(one, other)
        assert not found.identical
        assert sum(row.changed for row in found.rows) == 0
        assert row(found, "UNet").recast == row(found, "UNet").tensors
        assert found.rank.verdict == "none"
    assert [(one.a, one.b) for one in found.recast] == [("F16", "F32")]


def test_numbers_that_are_not_finite_are_said_and_where(published, diff):
    name, other = f"{UNET_PREFIX}out.2.weight", f"{UNET_PREFIX}time_embed.0.weight"
    bad = published[name].clone()
    bad[0, 0, 0, 0], bad[0, 0, 0, 1] = float("nan"), float("inf")
    same = published[other].clone()
    same[0, 0] = float("inf")
    found = diff(published | {other: same}, published | {name: bad, other: same})
    assert {(one.name, one.a, one.b) for one in found.not_finite} == {(other, 1, 1), (name, 0, 2)}
    msgspec.json.decode(msgspec.json.encode(found), type=Comparison)


# -- files of all kinds ------------------------------------------------------------------------------------------------


def test_a_unet_alone_is_compared_with_a_whole_checkpoint_under_any_names(published, diff):
    bare = {
        name.removeprefix(UNET_PREFIX): tensor for name, tensor in published.items() if name.startswith(UNET_PREFIX)
    }
    for unet in (
        {UNET_PREFIX + name: tensor for name, tensor in bare.items()},
        bare,
        {to_diffusers(name): tensor for name, tensor in bare.items()},
    ):
        found = diff(published, unet)
        (part,) = [row for row in found.rows if not row.block and not row.kind]
        assert (part.part, part.tensors, part.changed) == ("UNet", len(bare), 0)
        assert found.only_a.count == len(published) - len(bare)
        assert found.only_b.count == 0


def test_a_diffusers_folder_is_compared_with_the_file_it_was_made_from(demo_checkpoint, demo_folder, tmp_path, diff):
    folder = in_folder(open_checkpoint(demo_checkpoint), tmp_path / "folder", demo_folder)
    found = diff(demo_checkpoint, folder)
    assert sum(row.changed + row.recast for row in found.rows) == 0
    assert row(found, "text encoder 2").tensors > 20
    assert found.only_b.count == 0
    assert all("model." not in name or "position_ids" in name or "logit_scale" in name for name in found.only_a.first)


def test_another_model_s_unet_has_blocks_under_its_own_names(diff):
    foreign = {f"{UNET_PREFIX}input_blocks.{level}.9.odd.weight": torch.randn(40, 40) for level in (1, 11)}
    found = diff(foreign, {name: trained(tensor) for name, tensor in foreign.items()})
    assert [row.block for row in found.rows if row.block and not row.kind] == ["input_blocks.1", "input_blocks.11"]
    assert found.rank.verdict == "full"


def test_files_without_a_common_name_are_compared_too(diff):
    found = diff({"a": torch.ones(2)}, {"b": torch.ones(2)})
    assert (found.rows, found.identical, found.rank.verdict) == ((), False, "none")


def test_types_that_torch_cannot_calculate_with_are_compared_as_bytes(tmp_path, diff):
    for name, dtype in (("one", "F8_E8M0"), ("two", "F8_E8M0"), ("three", "F32")):
        write_sparse(tmp_path / name, {"scale": (8,)}, dtype)
    data = bytearray((tmp_path / "two").read_bytes())
    data[-1] = 1
    (tmp_path / "two").write_bytes(data)
    assert diff(tmp_path / "one", tmp_path / "one").identical
    assert row(diff(tmp_path / "one", tmp_path / "two"), "other").elements_changed == 1
    assert diff(tmp_path / "one", tmp_path / "three").reshaped_count == 1


def test_a_file_that_is_cut_short_is_one_sentence(demo_checkpoint, tmp_path, diff):
    (tmp_path / "cut.safetensors").write_bytes(demo_checkpoint.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is cut short"):
        diff(demo_checkpoint, tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_side(tmp_path / "nothing")


# -- merged or trained -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_training_every_matrix_is_a_full_fine_tune(published, diff, dtype):
    before = {name: tensor.to(dtype) for name, tensor in published.items() if is_unet_matrix(name, tensor)}
    rank = diff(before, {name: trained(tensor) for name, tensor in before.items()}).rank
    assert (rank.verdict, rank.low_rank, rank.full) == ("full", 0, rank.examined)
    assert rank.examined == module.EXAMINED < rank.changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("strength", [0.02, 0.5])
def test_a_merged_adapter_is_told_with_its_rank(published, diff, dtype, strength):
    before = {name: tensor.to(dtype) for name, tensor in published.items() if is_attention(name)}
    rank = diff(before, {name: merged(tensor, 4, strength) for name, tensor in before.items()}, every=True).rank
    assert (rank.verdict, rank.full, rank.rank) == ("low-rank", 0, 4)
    assert rank.examined == rank.changed == len(before)
    assert rank.effective_share < 0.5


def test_a_merge_beside_training_is_mixed(published, diff):
    before = {name: tensor.half() for name, tensor in published.items() if is_unet_matrix(name, tensor)}
    after = {name: (merged if is_attention(name) else trained)(tensor) for name, tensor in before.items()}
    rank = diff(before, after).rank
    assert rank.verdict == "mixed"
    assert {is_attention(one.name) for one in rank.matrices if one.verdict == "low-rank"} == {True}
    assert {is_attention(one.name) for one in rank.matrices if one.verdict == "full"} == {False}


def test_what_rounding_hides_is_undecided(published, diff):
    before = {name: tensor.bfloat16() for name, tensor in published.items() if is_attention(name)}
    rank = diff(before, {name: trained(tensor, 3e-4) for name, tensor in before.items()}).rank
    assert rank.verdict == "undecided"


def test_two_steps_of_the_engine_are_a_full_fine_tune(demo_folder, demo_checkpoint, tmp_path, diff):
    """Every matrix of it: "never merged" can be checked."""
    copy_pictures(demo_folder, tmp_path / "pictures")
    run = run_here(write_profile(tmp_path, demo_folder, steps=2), tmp_path / "runs")
    (export,) = run.exports.iterdir()
    found = diff(demo_checkpoint, export, every=True)
    assert (found.rank.verdict, found.rank.full) == ("full", found.rank.examined)
    assert found.rank.examined > 200
    assert row(found, "UNet").changed == row(found, "UNet").tensors
    assert not any(row.changed for row in found.rows if row.part != "UNet")


def test_the_sample_is_spread_over_blocks_and_kinds_and_always_the_same(published, diff):
    before = {name: tensor for name, tensor in published.items() if is_unet_matrix(name, tensor)}
    after = {name: trained(tensor) for name, tensor in before.items()}
    names = [one.name for one in diff(before, after).rank.matrices]
    assert len(set(names)) == module.EXAMINED
    assert names == [one.name for one in diff(before, after).rank.matrices]
    places = {to_diffusers(name.removeprefix(UNET_PREFIX)).split(".attentions")[0] for name in names}
    assert {"down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1"} <= places
    # Fed by one vector a picture: their rank is that of the few pictures seen.
    assert not any("embed" in name or ".emb_layers." in name for name in names)


# -- cost --------------------------------------------------------------------------------------------------------------


def test_neither_file_is_kept_in_memory_and_neither_diffusers_nor_transformers_is_loaded(tmp_path):
    """256 MiB on either side, 8 MiB a tensor."""
    for name in "ab":
        write_sparse(tmp_path / name, {f"t{number}": (4 << 20,) for number in range(32)})
    code = (
        "import resource, sys, pathlib, engine.run.diff; from engine.model.compare import compare\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = compare(*map(pathlib.Path, sys.argv[1:]), lambda *said: None)\n"
        "assert found.identical\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, *sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    more, *loaded = done.stdout.split()
    assert int(more) < 64 << 10, "KiB more at the peak"
    assert not {"diffusers", "transformers", "PIL"} & {name.split(".")[0] for name in loaded}

import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.contract.buckets import Bucket, Placement, make_buckets, place
from engine.contract.folder import scan
from engine.contract.items import Encoding
from engine.contract.safetensors_header import Header, TensorInfo
from engine.data.cache import Cache
from engine.data.content import ContentHashes, make_items
from engine.data.encode import encode_images
from engine.model.components import load_vae, vae_config
from engine.model.latents import decode_latents, encode_posterior, encoding_memory, load_image
from engine.model.single_file import open_checkpoint

WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def vae(demo_checkpoint: Path) -> AutoencoderKL:
    return load_vae(open_checkpoint(demo_checkpoint), "cpu")


def mean_of(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    return encode_posterior(vae, images)[0]


def whole(width: int, height: int) -> Placement:
    return Placement(Bucket(width, height), (width, height), (0, 0))


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def test_latents_are_the_scaled_posterior_mean(demo_checkpoint):
    real = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        scaling_factor=0.18215,  # another model's: must not be used
    )
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = mean_of(real, images)
    assert latents.shape == (2, 4, 4, 6) and latents.dtype == torch.float32 and not latents.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(latents, real.encode(images).latent_dist.mode() * 0.13025)
        torch.testing.assert_close(decode_latents(real, latents), real.decode(latents / 0.13025).sample.clamp(-1, 1))
    assert torch.equal(latents, mean_of(real, images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_draw_from_the_posterior_is_diffusers_own(demo_checkpoint, dtype):
    vae = load_vae(open_checkpoint(demo_checkpoint), "cpu", dtype)
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = encode_posterior(vae, images)
    assert mean.dtype == std.dtype == torch.float32 and mean.shape == std.shape == (1, 4, 4, 6)
    assert bool((std > 0).all())
    with torch.no_grad():
        posterior = vae.encode(images.to(dtype)).latent_dist
        theirs = posterior.sample(torch.Generator().manual_seed(1)).float() * 0.13025
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1), dtype=dtype).float()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(mean + std * noise, theirs, rtol=tolerance, atol=tolerance)


def test_bf16_encodes_near_fp32(vae, demo_checkpoint):
    half = load_vae(open_checkpoint(demo_checkpoint), "cpu", torch.bfloat16)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours, exact = mean_of(half, images), mean_of(vae, images)
    assert ours.dtype == torch.float32 and not torch.equal(ours, exact)
    torch.testing.assert_close(ours, exact, rtol=0.05, atol=0.05)


class LivePeak(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, for as long as something holds them."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return made

    def _count(self, storage):
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.live += storage.nbytes()
            weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())

    def _free(self, identity, size):
        self.known.discard(identity)
        self.live -= size


# Bytes a pixel at the peak on an H100, over the weights (docs/benchmarks.md).
@pytest.mark.parametrize(("dtype", "measured"), [(torch.float32, 2573), (torch.bfloat16, 1543)])
@pytest.mark.parametrize("side", [512, 1024, 1536])
def test_the_memory_of_encoding_is_enough_and_not_much_more(dtype, measured, side):
    shapes = json.loads((Path(__file__).parent / "sdxl_tensors.json").read_text())
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in shapes.items()}
    taken = measured * side**2 + 83_653_863 * dtype.itemsize
    expected = encoding_memory(Header(Path("sdxl.safetensors"), {}, tensors, 0), (side, side), dtype)
    assert 0.8 * expected < taken <= expected


@pytest.mark.parametrize(("size", "dtype"), [((256, 256), torch.float32), ((512, 320), torch.bfloat16)])
def test_the_memory_of_encoding_is_five_times_the_first_levels_channels(size, dtype):
    """Counted in SDXL's own VAE. Shapes alone: on the meta device nothing is computed, but all is made and let go."""
    shapes = json.loads((Path(__file__).parent / "sdxl_tensors.json").read_text())
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in shapes.items()}
    header = Header(Path("sdxl.safetensors"), {}, tensors, 0)
    with torch.device("meta"):
        vae = AutoencoderKL(**vae_config(header)).to(dtype).eval()
        images = torch.empty(1, 3, size[1], size[0], dtype=dtype)
    with torch.no_grad(), LivePeak() as counted:
        vae.encode(images)
    assert counted.peak == 5 * 128 * size[0] * size[1] * dtype.itemsize
    weights = sum(parameter.numel() for parameter in vae.parameters()) * dtype.itemsize
    copied = 128 * size[0] * size[1] * dtype.itemsize if dtype == torch.bfloat16 else 0  # by the kernels, unseen here
    assert encoding_memory(header, size, dtype) == pytest.approx(1.1 * (counted.peak + copied + weights), rel=1e-6)
    assert weights == 83_653_863 * dtype.itemsize


def test_the_demos_vae_keeps_the_block_averages(vae, demo_folder):
    for path in sorted((demo_folder / "pictures").glob("*.png"))[:8]:
        with Image.open(path) as picture:
            width, height = (side // 32 * 32 for side in picture.size)
        image = load_image(path, whole(width, height), WHITE)[None]
        averages = torch.nn.functional.avg_pool2d(image, 8)
        decoded = decode_latents(vae, mean_of(vae, image))
        expected = averages.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        torch.testing.assert_close(decoded, expected, rtol=0, atol=0.02)


def test_the_demos_latents_have_about_unit_spread(vae, demo_folder):
    latents = []
    for path in sorted((demo_folder / "pictures").glob("*.png")):
        with Image.open(path) as picture:
            size = picture.width // 8 * 8, picture.height // 8 * 8
        latents.append(mean_of(vae, load_image(path, whole(*size), WHITE)[None])[0].flatten(1))
    together = torch.cat(latents, dim=1)
    assert together.std(dim=1).sub(1).abs().max() < 0.1
    assert together.mean(dim=1).abs().max() < 0.1


def test_decoded_values_that_are_not_finite_are_refused(vae):
    with pytest.raises(ValueError, match="run it in float32"):
        decode_latents(vae, torch.full((1, 4, 2, 2), torch.inf))


def test_a_vae_that_overflows_is_not_mistaken_for_a_damaged_picture(demo_checkpoint, demo_folder, tmp_path):
    broken = load_vae(open_checkpoint(demo_checkpoint), "cpu")
    broken.quant_conv.bias.fill_(torch.inf)
    (tmp_path / "in").mkdir()
    picture = shutil.copy(sorted((demo_folder / "pictures").glob("*.png"))[0], tmp_path / "in" / "a.png")
    buckets = make_buckets(128, 32)
    found = scan([(picture.parent, 1)]).pictures
    placements = [place(each.width, each.height, buckets, step=32, upscale=True) for each in found]
    encoding = Encoding(
        vae="v", vae_dtype="", background="", text_encoders="", tokenizers="", text_dtype="", max_chunks=1
    )
    items, _ = make_items(found, placements, [1], encoding, ContentHashes(tmp_path / "memo"))

    def encode(path: Path, placement: Placement) -> torch.Tensor:
        return mean_of(broken, load_image(path, placement, WHITE)[None])[0]

    (skipped,) = encode_images(Cache(tmp_path / "cache"), items, encode).skipped
    assert skipped.reason == "gives latents that are not finite"


def test_tiles_give_what_the_whole_gives_and_never_more_than_512_pixels_at_once(vae, demo_checkpoint):
    tiled = load_vae(open_checkpoint(demo_checkpoint), "cpu", tiled=True)
    seen: list[tuple[int, ...]] = []
    for part in (tiled.encoder, tiled.decoder):
        part.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    colours = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = torch.nn.functional.interpolate(colours, size=(544, 576), mode="bilinear")
    latents = mean_of(tiled, images)
    assert latents.shape == (1, 4, 68, 72)
    torch.testing.assert_close(latents, mean_of(vae, images), rtol=0, atol=0.02)
    assert len(seen) == 4 and max(max(sides) for sides in seen) == 512
    seen.clear()
    decoded, whole_picture = decode_latents(tiled, latents), decode_latents(vae, latents)
    assert decoded.shape == (1, 3, 544, 576) and len(seen) == 4 and max(max(sides) for sides in seen) == 64
    # From 384 to 512 the tiles blend.
    torch.testing.assert_close(decoded[..., :384, :384], whole_picture[..., :384, :384], rtol=0, atol=0.01)
    torch.testing.assert_close(decoded[..., 512:, 512:], whole_picture[..., 512:, 512:], rtol=0, atol=0.01)


def test_small_pictures_are_not_tiled(vae, demo_checkpoint):
    tiled = load_vae(open_checkpoint(demo_checkpoint), "cpu", tiled=True)
    images = torch.rand(1, 3, 64, 96) * 2 - 1
    assert torch.equal(mean_of(tiled, images), mean_of(vae, images))


def test_pictures_are_scaled_then_cropped_and_span_minus_one_to_one(tmp_path):
    picture = Image.new("RGB", (40, 20), (0, 0, 0))
    picture.paste((255, 0, 0), (20, 0, 40, 20))
    path = saved(tmp_path / "a.png", picture)
    image = load_image(path, Placement(Bucket(24, 16), (32, 16), (8, 0)), WHITE)
    assert image.shape == (3, 16, 24) and image.dtype == torch.float32
    # The edge lies at 16 of 32 scaled pixels, 8 of them cut away.
    assert torch.equal(image[0, :, :5], torch.full((16, 5), -1.0))
    assert torch.equal(image[0, :, 11:], torch.full((16, 13), 1.0))
    assert torch.equal(image[1:], torch.full((2, 16, 24), -1.0))


def test_exif_rotation_comes_first(tmp_path):
    picture = Image.new("RGB", (16, 8), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    path = saved(tmp_path / "a.png", picture, exif=exif)
    image = load_image(path, whole(8, 16), WHITE)
    assert image[0, 0].min() == 1.0 and image[2, 15].min() == 1.0  # red on top, blue below


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_the_background(tmp_path, mode):
    if mode == "P":
        picture = Image.new("P", (8, 8), 3)
        picture.putpalette([0, 0, 0] * 3 + [9, 9, 9])
        path = saved(tmp_path / "a.png", picture, transparency=3)
    else:
        path = saved(tmp_path / "a.png", Image.new(mode, (8, 8), (0,) * len(mode)))
    image = load_image(path, whole(8, 8), (255, 0, 51))
    assert image[:, 0, 0].tolist() == pytest.approx([1.0, -1.0, -0.6])


def test_sixteen_bit_pictures_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16).repeat(8, axis=0)
    path = saved(tmp_path / "a.png", Image.fromarray(values))
    image = load_image(path, whole(3, 8), WHITE)
    assert ((image[0, 0] + 1) * 127.5).round().tolist() == [0.0, 100.0, 255.0]


@pytest.mark.parametrize(("mode", "colour"), [("L", 255), ("1", 1), ("CMYK", (0, 0, 0, 0))])
def test_other_modes_become_rgb(tmp_path, mode, colour):
    path = saved(tmp_path / f"a.{'jpg' if mode == 'CMYK' else 'png'}", Image.new(mode, (8, 8), colour))
    assert torch.equal(load_image(path, whole(8, 8), WHITE), torch.ones(3, 8, 8))


def test_broken_pictures_raise_an_error(tmp_path):
    path = tmp_path / "a.png"
    saved(path, Image.effect_noise((64, 64), 50))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises((OSError, ValueError)):
        load_image(path, whole(64, 64), WHITE)

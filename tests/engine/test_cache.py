import errno
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from engine.contract.atomic import Interrupted
from engine.contract.buckets import Bucket, Placement, make_buckets, place
from engine.contract.folder import scan
from engine.contract.items import Encoding, data_fingerprint, latents_key, text_key
from engine.data import cache as cache_module
from engine.data.cache import Cache, CacheError
from engine.data.content import ContentHashes, make_items
from engine.data.encode import Encoded, encode_images, encode_texts

ENCODING = Encoding(
    vae="v", vae_dtype="fp32", background="#ffffff", text_encoders="t", tokenizers="k", text_dtype="bf16", max_chunks=2
)
BUCKETS = make_buckets(64, 32)


def encode_image(path: Path, placement: Placement) -> torch.Tensor:
    with Image.open(path) as image:
        shade = sum(image.convert("RGB").getpixel((0, 0)))
    return torch.full((4, placement.bucket.height // 8, placement.bucket.width // 8), float(shade))


def encode_text(caption: str) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.arange(77 * 8, dtype=torch.bfloat16).reshape(77, 8) + len(caption)
    return values, values[0, :6]


@pytest.fixture
def folder(tmp_path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, size in enumerate([(64, 64), (96, 32), (64, 64)]):
        Image.new("RGB", size, (number + 1, 0, 0)).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(f"picture {number}")
    return pictures


def items_of(folder: Path, encoding=ENCODING, memo: Path | None = None, repeats=1, chunks=1):
    """`chunks` is what each caption takes whole."""
    pictures = scan([(folder, repeats)]).pictures
    placements = [place(each.width, each.height, BUCKETS, step=32, upscale=False) for each in pictures]
    hashes = ContentHashes(memo or folder / "memo")
    return make_items(pictures, placements, [chunks] * len(pictures), encoding, hashes)[0]


def fill(cache, items, image=encode_image, text=encode_text, **options):
    """Pictures, then the captions of those that are usable, as a run does it."""
    images = encode_images(cache, items, image, **options)
    texts = encode_texts(cache, images.items, text, **options)
    return Encoded(images.items, images.skipped, images.written + texts)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


def test_what_is_stored_is_what_is_loaded(cache, folder):
    items = items_of(folder)
    result = fill(cache, items)
    assert result.items == items and result.written == 6 and not result.skipped
    for item in items:
        latents = cache.load_latents(item)
        assert latents.dtype == torch.float32 and torch.equal(latents, encode_image(item.path, item.placement))
        prompt_embeds, pooled = cache.load_text(item)
        assert prompt_embeds.dtype == torch.bfloat16
        assert torch.equal(prompt_embeds, encode_text(item.caption)[0])
        assert torch.equal(pooled, encode_text(item.caption)[1])


def test_entries_are_plain_safetensors_with_the_mode_of_the_umask(cache, folder):
    (item, *_) = items_of(folder)
    fill(cache, [item])
    path = cache.latents_path(item)
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == ["latents"] and file.metadata()["key"] == item.latents_key == path.stem
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_full_cache_is_not_encoded_again(cache, folder):
    items = items_of(folder)
    fill(cache, items)
    never = pytest.fail
    again = fill(Cache(cache.folder), items, never, never)
    assert again.written == 0 and again.items == items


def test_equal_captions_and_equal_pictures_are_encoded_once(cache, folder):
    (folder / "1.txt").write_text("picture 0")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    items = items_of(folder)
    assert len(items) == 4
    assert encode_images(cache, items, encode_image).written == 3
    assert encode_texts(cache, items, encode_text) == 3


def test_a_prompt_without_a_picture_is_cached_like_a_caption(cache, folder):
    (item, *_) = items_of(folder)
    prompt = SimpleNamespace(name="the prompt", caption=item.caption, text_key=text_key(item.caption, 1, ENCODING))
    empty = SimpleNamespace(name="no prompt", caption="", text_key=text_key("", 1, ENCODING))
    assert encode_texts(cache, [item, prompt, empty], encode_text) == 2
    assert torch.equal(cache.load_text(prompt)[0], cache.load_text(item)[0])
    assert torch.equal(cache.load_text(empty)[0], encode_text("")[0])


def test_keys_follow_everything_that_matters_and_nothing_else(folder):
    encoding_changes = {field.name: "other" for field in fields(Encoding)} | {"max_chunks": 3, "vae_tiled": True}
    base = Placement(Bucket(640, 32), (640, 40), (0, 4))
    placements = [
        base,
        replace(base, bucket=Bucket(32, 640)),
        replace(base, scaled=(641, 40)),
        replace(base, crop=(0, 3)),
    ]
    latents = {latents_key("content", placement, ENCODING) for placement in placements}
    latents.add(latents_key("other", base, ENCODING))
    texts = {text_key("caption", 9, ENCODING), text_key("Caption", 9, ENCODING)}
    for name, value in encoding_changes.items():
        changed = replace(ENCODING, **{name: value})
        latents.add(latents_key("content", base, changed))
        texts.add(text_key("caption", 9, changed))
    of_vae = {"vae", "vae_dtype", "vae_tiled", "background", "latents"}
    assert len(latents) == 5 + len(of_vae)
    assert len(texts) == 2 + len(set(encoding_changes) - of_vae)
    assert not latents & texts


def test_keys_are_pinned():
    """What earlier versions encoded is found again."""
    placement = Placement(Bucket(64, 32), (64, 40), (0, 4))
    assert latents_key("content", placement, ENCODING) == "722bc3bf2aaf3b9481817c21d6f6438b4bfd3a6c"
    assert text_key("caption", 2, ENCODING) == "f269ded3bebd07e33d9eea6375537ef61f85739c"


def test_another_longest_caption_touches_only_those_that_it_cuts(cache, folder):
    """Keys hold the length that is encoded: what one limit made, another finds."""
    short, longer = replace(ENCODING, max_chunks=2), replace(ENCODING, max_chunks=4)
    for chunks in (1, 2):
        assert encode_texts(cache, items_of(folder, short, chunks=chunks), encode_text) == 3
        assert encode_texts(cache, items_of(folder, longer, chunks=chunks), encode_text) == 0
    assert encode_texts(cache, items_of(folder, short, chunks=3), encode_text) == 0, "cut to 2, which are there"
    assert encode_texts(cache, items_of(folder, longer, chunks=3), encode_text) == 3
    assert {item.chunks for item in items_of(folder, short, chunks=3)} == {3}, "the whole caption's"


@pytest.mark.parametrize("latents", ["mean", "sampled"])
@pytest.mark.parametrize(("bucket", "tiles"), [((512, 512), False), ((512, 64), False), ((544, 64), True)])
def test_tiles_make_another_entry_only_where_they_act(bucket, tiles, latents):
    placement = Placement(Bucket(*bucket), bucket, (0, 0))
    whole = replace(ENCODING, latents=latents)
    keys = {latents_key("content", placement, replace(whole, vae_tiled=tiled)) for tiled in (True, False)}
    assert (len(keys) == 2) is tiles


def test_latents_to_be_sampled_are_cached_as_mean_and_deviation(cache, folder):
    encoding = replace(ENCODING, latents="sampled")
    items = items_of(folder, encoding)

    def posterior(path: Path, placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
        mean = encode_image(path, placement)
        return mean, mean / 8

    assert encode_images(cache, items, posterior).written == 3
    for item in items:
        mean, std = cache.load_posterior(item)
        assert mean.dtype == std.dtype == torch.float32
        assert torch.equal(mean, encode_image(item.path, item.placement)) and torch.equal(std, mean / 8)
        assert torch.equal(cache.load_latents(item), mean)
    assert encode_images(cache, items_of(folder), encode_image).written == 3, "the mean alone is another entry"


def test_a_deviation_that_is_not_finite_is_refused_too(cache, folder):
    def broken(path: Path, placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
        mean = encode_image(path, placement)
        return mean, mean * torch.inf

    result = encode_images(cache, items_of(folder), broken)
    assert not result.items and {skipped.reason for skipped in result.skipped} == {"gives latents that are not finite"}


def test_a_renamed_picture_keeps_its_latents_and_an_edited_one_does_not(folder):
    before = items_of(folder)[0]
    (folder / "0.png").rename(folder / "00.png")
    (folder / "0.txt").rename(folder / "00.txt")
    assert items_of(folder)[0].latents_key == before.latents_key
    Image.new("RGB", (64, 64), "blue").save(folder / "00.png")
    assert items_of(folder)[0].latents_key != before.latents_key
    (folder / "00.txt").write_text("edited")
    assert items_of(folder)[0].text_key != before.text_key


@pytest.mark.parametrize("kind", ["latents", "text"])
def test_every_flipped_byte_and_every_cut_is_noticed(cache, folder, kind):
    (item, *_) = items_of(folder)
    fill(cache, [item])
    path = (cache.latents_path if kind == "latents" else cache.text_path)(item)
    whole = path.read_bytes()
    good = (cache.load_latents if kind == "latents" else cache.load_text)(item)
    header = 8 + int.from_bytes(whole[:8], "little")
    damaged = [whole[:cut] for cut in (0, 4, 8, header - 1, header, len(whole) // 2, len(whole) - 1)]
    damaged.append(whole + b"\0")
    for at in [*range(0, header), *range(header, len(whole), 61)]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        damaged.append(bytes(flipped))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            loaded = (cache.load_latents if kind == "latents" else cache.load_text)(item)
        except CacheError as error:
            assert item.name in error.text and "encoded again" in error.remedy
            assert not path.exists()
            refused += 1
        else:  # a flip that changes nothing, such as one in the padding
            assert all(torch.equal(a, b) for a, b in zip(loaded, good, strict=True))
    assert refused >= len(damaged) - 8


def test_a_damaged_entry_is_reported_removed_and_encoded_again(cache, folder):
    items = items_of(folder)
    fill(cache, items)
    cut, flipped = cache.latents_path(items[0]), cache.text_path(items[1])
    cut.write_bytes(cut.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[-1] ^= 1
    flipped.write_bytes(data)
    reports: list[CacheError] = []
    assert fill(cache, items, report=reports.append).written == 2
    assert [report.code for report in reports] == ["cache_damaged", "cache_damaged"]
    assert items[0].name in str(reports[0]) and items[1].name in str(reports[1])
    assert torch.equal(cache.load_latents(items[0]), encode_image(items[0].path, items[0].placement))
    assert fill(cache, items).written == 0


def test_an_entry_under_the_wrong_name_is_not_served(cache, folder):
    items = items_of(folder)
    fill(cache, items)
    cache.latents_path(items[0]).write_bytes(cache.latents_path(items[2]).read_bytes())
    with pytest.raises(CacheError, match="another picture"):
        cache.load_latents(items[0])


def test_a_pickle_or_a_foreign_file_is_refused_unread(cache, folder):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("the pickle ran",)

    (item, *_) = items_of(folder)
    fill(cache, [item])
    path = cache.latents_path(item)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CacheError, match="not an entry"):
        cache.load_latents(item)
    save_file({"latents": torch.zeros(4, 8, 8)}, path)
    with pytest.raises(CacheError, match="not an entry"):
        cache.load_latents(item)
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(CacheError, match="not an entry"):
        cache.load_latents(item)


def test_a_missing_entry_names_the_picture_and_the_remedy(cache, folder):
    (item, *_) = items_of(folder)
    with pytest.raises(CacheError, match="disappeared") as caught:
        cache.load_text(item)
    assert item.name in caught.value.text and caught.value.remedy


def test_a_picture_damaged_behind_its_header_is_left_out_and_named(cache, folder):
    Image.effect_noise((64, 64), 90).save(folder / "0.png")
    data = bytearray((folder / "0.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "0.png").write_bytes(data)
    reports: list[CacheError] = []
    items = items_of(folder)
    result = fill(cache, items, report=reports.append)
    assert result.items == items[1:] and result.written == 4
    assert [skipped.path.name for skipped in result.skipped] == ["0.png"]
    assert "damaged" in result.skipped[0].reason and items[0].name in reports[0].text
    assert (folder / "0.png").read_bytes() == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_latents_that_are_not_finite_are_refused_and_named(cache, folder, value):
    items = items_of(folder)

    def broken(path: Path, placement: Placement) -> torch.Tensor:
        latents = encode_image(path, placement)
        if path.name == "1.png":
            latents[2, 1, 3] = value
        return latents

    result = encode_images(cache, items, broken)
    assert [(skipped.path.name, skipped.reason) for skipped in result.skipped] == [
        ("1.png", "gives latents that are not finite")
    ]
    assert not cache.latents_path(items[1]).exists()


def test_text_that_is_not_finite_stops_with_the_caption_named(cache, folder):
    items = items_of(folder)
    with pytest.raises(CacheError, match=r"0\.png"):
        encode_texts(cache, items, lambda caption: (torch.full((77, 8), torch.nan), torch.zeros(6)))
    assert not cache.text_path(items[0]).exists()


def test_a_bug_in_an_encoder_is_not_mistaken_for_a_bad_picture(cache, folder):
    with pytest.raises(AssertionError):
        encode_images(cache, items_of(folder), lambda path, placement: torch.zeros(4, 1, 1))

    def out_of_memory(path, placement):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        encode_images(cache, items_of(folder), out_of_memory)


def test_a_picture_edited_or_deleted_since_the_scan_is_left_out(cache, folder):
    items = items_of(folder)
    Image.new("RGB", (64, 64), "white").save(folder / "0.png")
    (folder / "1.png").unlink()
    result = encode_images(cache, items, encode_image)
    reasons = {skipped.path.name: skipped.reason for skipped in result.skipped}
    assert "has changed" in reasons["0.png"] and "cannot be read" in reasons["1.png"]
    assert result.items == items[2:]

    pictures = scan([(folder, 1)]).pictures
    Image.new("RGB", (32, 32), "black").save(folder / "0.png")
    placements = [place(each.width, each.height, BUCKETS, step=32, upscale=False) for each in pictures]
    kept, skipped = make_items(pictures, placements, [1] * len(pictures), ENCODING, ContentHashes(folder / "memo"))
    assert [item.path.name for item in kept] == ["2.png"] and "has changed" in skipped[0].reason


def test_a_picture_edited_while_it_is_encoded_is_left_out(cache, folder):
    items = items_of(folder)

    def slow(path: Path, placement: Placement) -> torch.Tensor:
        latents = encode_image(path, placement)
        if path.name == "2.png":
            os.utime(path, ns=(1, 1))
        return latents

    assert encode_images(cache, items, slow).items == items[:2]


def test_a_hair_thin_picture_is_refused_before_it_fills_the_memory(folder):
    Image.new("1", (1, 300_000)).save(folder / "hair.png")
    pictures = scan([(folder, 1)]).pictures
    placements = [place(each.width, each.height, make_buckets(1024, 64), step=64, upscale=True) for each in pictures]
    kept, skipped = make_items(pictures, placements, [1] * len(pictures), ENCODING, ContentHashes(folder / "memo"))
    assert len(kept) == 3 and "too thin" in skipped[0].reason


def test_a_stop_keeps_what_is_done_and_the_next_start_goes_on(cache, folder):
    items = items_of(folder)
    done: list[str] = []

    def counted(path: Path, placement: Placement) -> torch.Tensor:
        done.append(path.name)
        return encode_image(path, placement)

    with pytest.raises(Interrupted):
        encode_images(cache, items, counted, should_stop=lambda: len(done) == 2)
    progress: list[tuple[int, int]] = []
    encode_images(cache, items, counted, progress=lambda *counts: progress.append(counts))
    assert done == ["0.png", "1.png", "2.png"]
    assert progress == [(0, 1), (1, 1)]
    with pytest.raises(Interrupted):
        cache.missing_latents(items, should_stop=lambda: True)
    with pytest.raises(Interrupted):
        encode_texts(cache, items, encode_text, should_stop=lambda: True)


def test_a_killed_encoder_leaves_whole_entries_and_its_orphan_is_swept(tmp_path, folder):
    code = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_cache import Cache, encode_image, encode_images, items_of
import engine.data.cache as module
real = module.write_atomically
def dying(path, write):
    if len(list(Path(sys.argv[1]).rglob("*.safetensors"))) < 2:
        return real(path, write)
    def half(file):
        file.write(b"half"); file.flush(); os.kill(os.getpid(), 9)
    real(path, half)
module.write_atomically = dying
encode_images(Cache(Path(sys.argv[1])), items_of(Path(sys.argv[2])), encode_image)
"""
    where = tmp_path / "cache"
    here = Path(__file__).parent
    killed = subprocess.run([sys.executable, "-c", code, where, folder, here], cwd=here.parents[1], check=False)
    assert killed.returncode == -9
    (orphan,) = where.rglob("*.tmp")
    os.utime(orphan, (0, 0))
    cache = Cache(where)
    assert not list(where.rglob("*.tmp"))
    assert [item.path.name for item in cache.missing_latents(items_of(folder))] == ["2.png"]


def test_the_files_of_living_writers_are_not_swept(tmp_path):
    shelf = tmp_path / "latents" / "ab"
    shelf.mkdir(parents=True)
    mine = shelf / f".x.safetensors.{os.getpid()}-1.tmp"
    mine.touch()
    young = shelf / ".x.safetensors.4194304-1.tmp"  # beyond the kernel's largest process number
    young.touch()
    Cache(tmp_path)
    assert mine.exists() and young.exists()
    for path in (mine, young):
        os.utime(path, (0, 0))
    Cache(tmp_path)
    assert not mine.exists() and not young.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_with_a_remedy(cache, folder, monkeypatch, number):
    items = items_of(folder)
    encode_images(cache, items[:1], encode_image)

    def full(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match="is full") as caught:
        encode_images(cache, items, encode_image)
    monkeypatch.undo()
    assert "MiB free" in caught.value.text and "stays" in caught.value.remedy and "\n" not in str(caught.value)
    assert not list(cache.folder.rglob("*.tmp"))
    assert encode_images(cache, items, encode_image).written == 2


def test_a_real_full_disk_is_noticed(cache, folder):
    """A limit on the file size stands in for the disk: the kernel refuses the write itself."""
    resource = pytest.importorskip("resource")
    import signal

    items = items_of(folder)
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    try:
        with pytest.raises(CacheError, match="is full"):
            encode_images(cache, items, encode_image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert encode_images(cache, items, encode_image).written == 3


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be written"):
        Cache(tmp_path / "file" / "cache")


def test_two_runs_may_fill_one_cache(tmp_path, folder):
    items = items_of(folder)
    threads = [threading.Thread(target=fill, args=(Cache(tmp_path / "cache"), items)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not Cache(tmp_path / "cache").missing_latents(items)
    assert not Cache(tmp_path / "cache").missing_text(items)


def test_an_unchanged_picture_is_read_once_over_many_runs(folder, monkeypatch):
    memo = folder / "memo"
    first = items_of(folder, memo=memo)
    monkeypatch.setattr("engine.data.content.file_digest", pytest.fail)
    assert items_of(folder, memo=memo) == first


def test_the_memo_survives_torn_lines_and_rubbish(folder):
    memo = folder / "memo"
    first = items_of(folder, memo=memo)
    lines = memo.read_bytes()
    for rubbish in (lines[:-7], b"\0\xff\n[1]\n{}\nnull\n[[],1,2]\n" + lines, b'\n["a", [1, 2], 3]\n'):
        memo.write_bytes(rubbish)
        assert items_of(folder, memo=memo) == first
        assert items_of(folder, memo=memo) == first
    torn = memo.read_bytes() + b'\n["torn", [1, 2, 3'
    memo.write_bytes(torn)
    Image.new("RGB", (32, 32)).save(folder / "new.png")
    items_of(folder, memo=memo)
    assert str(folder / "new.png") in memo.read_bytes().splitlines()[-1].decode()


def test_stopping_while_pictures_are_read_keeps_their_digests(folder):
    pictures = scan([(folder, 1)]).pictures
    placements = [place(each.width, each.height, BUCKETS, step=32, upscale=False) for each in pictures]
    seen: list[tuple[int, int]] = []
    with pytest.raises(Interrupted):
        make_items(
            pictures,
            placements,
            [1] * len(pictures),
            ENCODING,
            ContentHashes(folder / "memo"),
            should_stop=lambda: len(seen) == 2,
            progress=lambda *counts: seen.append(counts),
        )
    assert len((folder / "memo").read_bytes().split()) > 0
    assert sum(line.startswith(b"[") for line in (folder / "memo").read_bytes().splitlines()) == 2


def test_the_data_fingerprint_sees_order_repeats_captions_and_pictures(folder):
    items = items_of(folder)
    prints = {
        data_fingerprint(items),
        data_fingerprint(items[::-1]),
        data_fingerprint(items[:2]),
        data_fingerprint(items_of(folder, repeats=2)),
        data_fingerprint(items_of(folder, replace(ENCODING, vae="w"))),
        data_fingerprint(items_of(folder, replace(ENCODING, tokenizers="w"))),
    }
    assert len(prints) == 6
    assert data_fingerprint(items_of(folder)) == data_fingerprint(items)


def test_the_cache_module_never_unpickles():
    source = Path(cache_module.__file__).read_text()
    assert "torch.load" not in source and "import pickle" not in source

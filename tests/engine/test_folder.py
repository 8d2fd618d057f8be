import io
import os
import stat
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, features

from engine.contract.atomic import Interrupted
from engine.contract.folder import holding, read_caption, scan, shown


def make(path: Path, size=(6, 4), mode="RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)
    return path


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """A 1-bit picture of zeros, with chunks behind its pixels."""
    rows = zlib.compress(bytes(1 + (width + 7) // 8) * min(height, 100))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + b"".join(extra) + chunk(b"IEND", b"")


def names(found) -> list[str]:
    return [picture.path.name for picture in found.pictures]


def only_reason(folder: Path) -> str:
    found = scan([(folder, 1)])
    assert not found.pictures
    (skipped,) = found.skipped
    return skipped.reason


def text(found) -> str:
    return "\n".join(map(str, found.problems))


@pytest.mark.parametrize("extension", ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "PNG", "Jpg"])
def test_every_format_is_read_in_any_letter_case(tmp_path, extension):
    make(tmp_path / f"a.{extension}", (7, 5))
    (picture,) = scan([(tmp_path, 3)]).pictures
    assert (picture.width, picture.height, picture.repeats) == (7, 5, 3)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_where_pillow_can(tmp_path):
    make(tmp_path / "a.avif", (16, 8), exif=exif(6))
    (picture,) = scan([(tmp_path, 1)]).pictures
    assert (picture.width, picture.height) == (8, 16)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_after_exif_rotation(tmp_path, extension, orientation):
    path = make(tmp_path / f"a.{extension}", (20, 10), exif=exif(orientation))
    (picture,) = scan([(tmp_path, 1)]).pictures
    with Image.open(path) as image:
        assert (picture.width, picture.height) == ImageOps.exif_transpose(image).size
    assert (picture.width, picture.height) == ((10, 20) if orientation >= 5 else (20, 10))


def test_a_png_rotated_by_metadata_behind_its_pixels_is_seen(tmp_path):
    (tmp_path / "exif.png").write_bytes(png(20, 10, chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))))
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="8"/>'
    (tmp_path / "xmp.png").write_bytes(png(20, 10, chunk(b"tEXt", b"date:create\0today"), chunk(b"iTXt", xmp)))
    (tmp_path / "plain.png").write_bytes(png(20, 10, chunk(b"tEXt", b"date:create\0today")))
    sizes = {picture.path.stem: (picture.width, picture.height) for picture in scan([(tmp_path, 1)]).pictures}
    assert sizes == {"exif": (10, 20), "xmp": (10, 20), "plain": (20, 10)}


def test_png_headers_are_read_without_decoding_the_pixels(tmp_path, monkeypatch):
    make(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("the pixels were decoded"))
    assert names(scan([(tmp_path, 1)])) == ["a.png"]


def test_unusual_pixel_formats_are_pictures(tmp_path):
    make(tmp_path / "cmyk.jpg", mode="CMYK")
    make(tmp_path / "gray16.png", mode="I;16")
    make(tmp_path / "la.png", mode="LA")
    make(tmp_path / "palette.png", mode="P", transparency=b"\0\x80")
    make(tmp_path / "bilevel.tif", mode="1")
    found = scan([(tmp_path, 1)])
    assert len(found.pictures) == 5 and not found.skipped


def test_what_is_no_picture_is_skipped_with_its_reason(tmp_path):
    cases = {
        "empty": (b"", "empty"),
        "text": (b"a red circle", "known format"),
        "stub": (b"\x89PNG\r\n\x1a\n", "known format"),
        "bomb": (png(30_000, 30_000), "hostile"),
        "big": (png(10_000, 9_000), "hostile"),
        "html": (b"<!doctype html><html></html>", "known format"),
    }
    for name, (data, expected) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.png").write_bytes(data)
        assert expected in only_reason(folder), name


def test_a_bomb_costs_no_memory(tmp_path):
    (tmp_path / "a.png").write_bytes(png(30_000, 30_000))
    scan([(tmp_path, 1)])
    tracemalloc.start()
    scan([(tmp_path, 1)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_picture_of_another_format_than_its_name_says_is_used(tmp_path):
    Image.new("RGB", (9, 3)).save(tmp_path / "really_jpeg.png", format="JPEG")
    assert names(scan([(tmp_path, 1)])) == ["really_jpeg.png"]


def test_a_picture_of_another_kind_is_said_to_be_one(tmp_path):
    (tmp_path / "dance.GIF").write_bytes(b"GIF89a")
    (tmp_path / "notes.json").write_text("{}")
    (skipped,) = scan([(tmp_path, 1)]).skipped
    assert skipped.reason == "is a gif file, which is not read here: convert it to png"


def test_pipes_and_dead_links_are_skipped_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere.png")
    make(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a.txt")
    found = scan([(tmp_path, 1)])
    assert {skipped.path.name for skipped in found.skipped} == {"pipe.png", "dead.png"}
    assert found.pictures[0].caption == "a"


def test_animations_are_used_by_their_first_frame_and_named(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:])
    found = scan([(tmp_path, 1)])
    assert names(found) == ["a.webp", "b.png"]
    assert text(found).count("animated") == 2


def test_hostile_names_are_found_and_shown_on_one_line(tmp_path):
    odd = ["-rf.png", "new\nline.png", "sp ace's.png", "日本語.png", "\u00e9.png", "e\u0301.png", "x" * 251 + ".png"]
    for name in odd:
        make(tmp_path / name)
    raw = os.fsdecode(b"caf\xe9.png")
    make(tmp_path / raw)
    found = scan([(tmp_path, 1)])
    assert sorted(names(found)) == sorted([*odd, raw])
    captions = {picture.path.name: picture.caption for picture in found.pictures}
    assert captions["new\nline.png"] == "new line"
    assert captions[raw] == "caf\ufffd"
    for picture in found.pictures:
        line = shown(picture.path)
        assert line.isprintable() and line.encode()


def test_order_depends_on_names_alone(tmp_path):
    listings = []
    for folder, order in (("one", ["b/2.png", "a.png", "b/1.png", "B.png"]), ("two", ["B.png", "b/1.png", "a.png"])):
        for name in [*order, "b/2.png"]:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            make(tmp_path / folder / name)
        found = scan([(tmp_path / folder, 1)])
        listings.append([picture.path.relative_to(tmp_path / folder).as_posix() for picture in found.pictures])
    assert listings[0] == listings[1] == ["B.png", "a.png", "b/1.png", "b/2.png"]


def test_loops_end_and_hidden_things_are_passed_over(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "again").symlink_to(tmp_path / "sub")
    (tmp_path / ".hidden").mkdir()
    for name in ("a.png", "sub/b.png", ".hidden/c.png", "._a.png"):
        make(tmp_path / name)
    assert names(scan([(tmp_path, 1)])) == ["a.png", "b.png"]


def test_a_folder_listed_beside_its_parent_keeps_its_own_repeats(tmp_path):
    (tmp_path / "sub").mkdir()
    make(tmp_path / "a.png")
    make(tmp_path / "sub" / "b.png")
    found = scan([(tmp_path, 1), (tmp_path / "sub", 5)])
    assert [(picture.path.name, picture.repeats) for picture in found.pictures] == [("a.png", 1), ("b.png", 5)]


def test_whether_folders_hold_pictures_goes_by_names_at_any_depth(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "notes.txt").touch()
    assert holding([tmp_path]) == (False,)
    (tmp_path / "a" / "b" / "X.JPG").touch()
    assert holding([tmp_path, tmp_path / "nowhere"]) == (True, False)


def test_whether_folders_hold_pictures_is_asked_as_the_scan_does(tmp_path):
    """Links are followed, hidden folders are not, and what is listed beside its parent is not the parent's."""
    make(tmp_path / "elsewhere" / "a.png")
    make(tmp_path / "hidden" / ".thumbs" / "a.png")
    make(tmp_path / "outer" / "inner" / "a.png")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "set").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked" / "loop").symlink_to(tmp_path / "linked")
    for names in (["linked"], ["hidden"], ["outer", "outer/inner"], ["outer"], ["outer/inner", "outer/inner"]):
        folders = [tmp_path / name for name in names]
        found = [picture.path for picture in scan([(folder, 1) for folder in folders]).pictures]
        assert any(holding(folders)) == bool(found)
    assert holding([tmp_path / "outer", tmp_path / "outer" / "inner"]) == (False, True)


def test_bad_folders_are_problems_not_errors(tmp_path):
    make(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    listed = [
        (tmp_path / "nowhere", 1), (tmp_path / "a.png", 1), (tmp_path, 1), (tmp_path, 2), (Path("nul\0"), 1),
        (tmp_path / "empty", 1),
    ]  # fmt: skip
    found = scan(listed)
    assert [(picture.path.name, picture.repeats) for picture in found.pictures] == [("a.png", 1)]
    for expected in ("cannot be opened", "is not a folder", "listed twice", "holds no pictures", "null byte"):
        assert expected in text(found)
    with pytest.raises(ValueError, match="repeats starts at 1"):
        scan([(tmp_path, 0)])


@pytest.mark.parametrize(
    ("data", "caption", "remark"),
    [
        (b"a red circle", "a red circle", ""),
        (b"\xef\xbb\xbfa  red\r\n circle\r\n", "a red circle", ""),
        ("a red circle".encode("utf-16"), "a red circle", ""),
        (b"", "", ""),
        (b" \r\n\t", "", ""),
        (b"a\0b\0", "ab", ""),
        (b"caf\xe9 noir", "caf\ufffd noir", "not valid UTF-8"),
        ("שלום 🎨 e\u0301".encode(), "שלום 🎨 e\u0301", ""),
        (b"word " * 300_000, ("word " * 300_000)[: 1 << 20].strip(), "longer than 1 MiB"),
    ],
    ids=["plain", "bom-crlf", "utf-16", "empty", "blank", "nul", "latin-1", "rtl-emoji", "huge"],
)
def test_captions_of_every_kind_are_read(tmp_path, data, caption, remark):
    make(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(data)
    found = scan([(tmp_path, 1)])
    assert found.pictures[0].caption == caption
    assert (remark in text(found)) if remark else not found.problems
    assert read_caption(tmp_path / "a.txt")[0] == caption


def test_sidecars_are_found_whatever_their_letter_case_and_normal_form(tmp_path):
    pairs = {"one.PNG": "one.TXT", "Two.png": "two.txt", "cafe\u0301.png": "caf\u00e9.txt", "v1.5.png": "v1.5.txt"}
    for picture, sidecar in pairs.items():
        make(tmp_path / picture)
        (tmp_path / sidecar).write_text(f"caption of {picture}")
    found = scan([(tmp_path, 1)])
    assert {picture.path.name: picture.caption for picture in found.pictures} == {
        name: f"caption of {name}" for name in pairs
    }
    assert not found.problems


def test_the_exact_sidecar_wins_over_a_similar_one(tmp_path):
    for name in ("a", "A"):
        make(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    assert [(picture.path.stem, picture.caption) for picture in scan([(tmp_path, 1)]).pictures] == [
        ("A", "A"),
        ("a", "a"),
    ]


def test_without_a_sidecar_the_name_is_the_caption_and_it_is_said_once(tmp_path):
    make(tmp_path / "a_red_circle.png")
    make(tmp_path / "b.png")
    found = scan([(tmp_path, 1)])
    assert found.pictures[0].caption == "a red circle"
    assert "2 of 2 pictures without a caption" in text(found) and len(found.problems) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_reported(tmp_path):
    make(tmp_path / "a.png").chmod(0)
    make(tmp_path / "b.png")
    (tmp_path / "b.txt").touch(0)
    (tmp_path / "shut").mkdir(0)
    found = scan([(tmp_path, 1)])
    assert not found.pictures and len(found.skipped) == 2
    assert "cannot be opened" in text(found)


def test_nothing_on_the_disk_changes(tmp_path):
    for orientation in (1, 6):
        make(tmp_path / f"{orientation}.jpg", exif=exif(orientation))
    (tmp_path / "bad.png").write_bytes(b"text")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in tmp_path.iterdir()}
    for path in before:
        path.chmod(stat.S_IRUSR)
    scan([(tmp_path, 1)])
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == {
        path: state[:2] for path, state in before.items()
    }


def test_the_identity_tells_an_edited_file(tmp_path):
    path = make(tmp_path / "a.png")
    before = scan([(tmp_path, 1)]).pictures[0].identity
    assert scan([(tmp_path, 1)]).pictures[0].identity == before
    os.utime(path, ns=(1, 1))
    assert scan([(tmp_path, 1)]).pictures[0].identity != before


def test_a_stop_ends_the_scan_and_progress_counts_pictures(tmp_path):
    for number in range(5):
        make(tmp_path / f"{number}.png")
    seen: list[tuple[int, int]] = []
    scan([(tmp_path, 1)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(6)]
    seen.clear()
    with pytest.raises(Interrupted):
        scan(
            [(tmp_path, 1)],
            should_stop=lambda: len(seen) == 2,
            progress=lambda done, total: seen.append((done, total)),
        )
    assert len(seen) == 2


def test_damaged_files_never_raise(tmp_path):
    """Every cut and many a flipped byte of every format: used or skipped, never an exception."""
    for extension in ("png", "jpeg", "webp", "bmp", "tiff"):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(buffer, extension, exif=exif(6))
        data = buffer.getvalue()
        for cut in range(0, min(len(data), 200), 7):
            (tmp_path / f"cut{cut}.{extension}").write_bytes(data[:cut])
        for at in range(0, min(len(data), 200), 5):
            damaged = bytearray(data)
            damaged[at] ^= 0xFF
            (tmp_path / f"flip{at}.{extension}").write_bytes(damaged)
    found = scan([(tmp_path, 1)])
    assert len(found.pictures) + len(found.skipped) == len(list(tmp_path.iterdir()))
    assert found.skipped and all(skipped.reason for skipped in found.skipped)


@pytest.mark.parametrize("extension", ["png", "jpeg", "webp", "bmp", "tiff", "avif"])
def test_a_picture_without_its_end_is_skipped_as_that_and_one_with_more_behind_it_is_used(extension, tmp_path):
    whole = make(tmp_path / "whole" / f"a.{extension}", size=(64, 48))
    data = whole.read_bytes()
    for name, raw in (("more", data + b"GPS" * 50), ("cut", data[: len(data) * 3 // 4])):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"a.{extension}").write_bytes(raw)
    assert len(scan([(tmp_path / "whole", 1)]).pictures) == 1
    assert len(scan([(tmp_path / "more", 1)]).pictures) == 1
    reason = only_reason(tmp_path / "cut")
    assert extension == "avif" or reason == "is truncated: the end of the file is missing"


def test_a_whole_picture_is_not_decoded_to_know_that_it_is(tmp_path, monkeypatch):
    for extension in ("png", "jpeg", "webp", "bmp", "tiff"):
        make(tmp_path / f"a.{extension}")

    def load(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert len(scan([(tmp_path, 1)]).pictures) == 5


def test_importing_the_scan_loads_no_pillow():
    code = "import sys, engine.contract.folder; print('PIL' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

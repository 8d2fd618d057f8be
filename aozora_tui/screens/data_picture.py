"""The page about one picture: how it gets to its bucket, its caption, and when it is drawn. Pure: lines out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aozora_tui.dataset_draws import Draw, Drawing
from aozora_tui.dataset_survey import Placed
from aozora_tui.screens.data_page import Parts, paragraph
from aozora_tui.terminal import ascii_only
from aozora_tui.text import printable
from aozora_tui.widgets.half_blocks import Thumbnail, block_rows, sign_rows, without_colours
from engine.contract.buckets import Placement
from engine.contract.sections import Profile

LEAST_ROWS, MOST_ROWS = 6, 14  # of the picture, in lines
MOST_COLUMNS = 40
BESIDE = 23  # columns of the words
DRAWS = 6


@dataclass(frozen=True)
class Look:
    """What was found out about a picture in a thread. `failed`: why it cannot be decoded; `tokens` is None where there
    is no vocabulary, `draws` until the order is known, or where it cannot be."""

    picture: Thumbnail | None = None
    failed: str = ""
    tokens: int | None = None
    draws: tuple[Draw, ...] | None = None
    held_out: bool = False


def picture_room(room: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows for the picture on a page of that size; words stand beside it."""
    columns, rows = room
    return max(min(columns - BESIDE, MOST_COLUMNS), 4), min(max(rows * 2 // 5, LEAST_ROWS), MOST_ROWS)


def picture_page(
    placed: Placed,
    look: Look | None,
    profile: Profile,
    drawing: Drawing | None,
    *,
    unknown: str,
    room: tuple[int, int],
    shown: bool,
) -> list[Parts]:
    """`shown`: the picture itself, too. `look` is None as long as nobody has looked, and what it adds has its place
    already. `unknown`: why the draws are not known."""
    width = room[0]
    said = [(text, "") for text in geometry(placed)]
    if placed.placement.upscaled:
        said.append(("smaller than its bucket: detail is invented", "attention"))
    if look is not None and look.failed:
        said.append((f"{look.failed}: the run will skip it", "bad"))
    lines: list[Parts] = paragraph(placed.name, width, "head")
    lines += (
        _beside(said, look, room) if shown else [line for text in said for line in paragraph(text[0], width, text[1])]
    )
    lines += [(), *_caption(placed, look, profile, width)]
    return [*lines, (), *_drawn(look, profile, drawing, unknown, width)]


def geometry(placed: Placed) -> tuple[str, ...]:
    """From the file's size to the bucket, in words."""
    picture, placement = placed.picture, placed.placement
    (width, height), (wide, high) = placement.bucket, placement.scaled
    scaled = () if (wide, high) == (picture.width, picture.height) else (f"scaled {wide}x{high}",)
    return f"file   {picture.width}x{picture.height}", *scaled, f"bucket {width}x{height}", *_crop(placement)


def _crop(placement: Placement) -> tuple[str, ...]:
    wide, high = (whole - kept for whole, kept in zip(placement.scaled, placement.bucket, strict=True))
    if not wide and not high:
        return ("crop   nothing",)
    (first, second), lost = (("left", "right"), wide) if wide else (("top", "bottom"), high)
    before = lost // 2
    return f"crop   {100 * placement.lost:.1f} %", f"{before} px {first}, {lost - before} {second}"


def _beside(said: Sequence[tuple[str, str]], look: Look | None, room: tuple[int, int]) -> list[Parts]:
    """What is said of the picture, and itself at the right; as many lines whether it is there yet or not."""
    rows = picture_room(room)[1]
    drawn: Sequence[Parts] = ()
    if look is not None and look.picture is not None:
        drawn = sign_rows(look.picture) if ascii_only() or without_colours() else block_rows(look.picture)
    words = [line for text, style in said for line in paragraph(text, BESIDE - 2, style)]
    lines: list[Parts] = []
    for row in range(max(rows, len(words))):
        left = words[row] if row < len(words) else ()
        gap = BESIDE - sum(len(text) for text, _ in left)
        lines.append((*left, (" " * gap, ""), *(drawn[row] if row < len(drawn) else ())))
    return lines


def _caption(placed: Placed, look: Look | None, profile: Profile, width: int) -> list[Parts]:
    caption, longest = placed.picture.caption, profile.data.max_tokens
    heading: list[tuple[str, str]] = [("Caption", "head")]
    if look is not None and look.tokens is not None:
        heading.append((f"  {look.tokens} of {longest} tokens", "dim"))
    lines: list[Parts] = [
        tuple(heading),
        *paragraph(printable(" ".join(caption.split())) or "(empty)", width, "" if caption else "dim"),
    ]
    if look is not None and look.tokens is not None and look.tokens > longest:
        lines += paragraph(f"What is beyond {longest} tokens is not learnt.", width, "attention")
    return lines


def _drawn(look: Look | None, profile: Profile, drawing: Drawing | None, unknown: str, width: int) -> list[Parts]:
    lines: list[Parts] = [(("Drawn", "head"), (f"  with seed {profile.train.seed}, from a new start", "dim"))]
    if drawing is None or look is None or look.draws is None:
        return [*lines, *paragraph(unknown, width, "dim")]
    if not look.draws and look.held_out:
        return [*lines, *paragraph("never: it is held out, and the run is measured by it", width, "attention")]
    if not look.draws:
        return [*lines, *paragraph("not once: the run ends before its turn", width, "attention")]
    step_width = max(len(f"{draw.step:,}") for draw in look.draws)
    accumulate = profile.train.accumulate
    for draw in look.draws:
        place = f"{draw.micro:>{len(str(accumulate))}} of {accumulate}"
        what = ("without its caption", "attention") if draw.dropped else ("with its caption", "")
        lines.append(((f"step {draw.step:>{step_width},}  {place}  ", ""), what))
    dropped = profile.objective.conditional_dropout
    how = f"dropped {100 * dropped:g} % of the time, else learnt as it is" if dropped else "always learnt as it is"
    return [*lines, *paragraph(f"The caption is {how}: nothing shuffles or extends it.", width, "dim")]

"""The pages about the whole set: buckets, what is skipped, the cache. Pure: what is known in, lines out."""

from __future__ import annotations

import math
from pathlib import Path

from aozora_tui.dataset_cache import CacheState, Tally
from aozora_tui.dataset_draws import Drawing
from aozora_tui.dataset_survey import Survey, below_a_root
from aozora_tui.screens.data_page import Parts, paragraph
from aozora_tui.screens.words import counted, plain
from aozora_tui.terminal import ascii_only
from aozora_tui.text import home_path, size
from aozora_tui.widgets.gauge import bar
from engine.contract.folder import shown
from engine.contract.sections import Profile

_BAR_AND_NUMBERS = 24


def bucket_page(survey: Survey, profile: Profile, drawing: Drawing | None, width: int, *, only: str) -> list[Parts]:
    """A bar for each bucket, fullest first. `only` is the key that lists pictures by what is the matter with them."""
    total = survey.buckets.total()
    if not total:
        return paragraph(_none_yet(survey), width, "dim")
    head = f"{counted(total, 'picture')} in {counted(len(survey.buckets), 'bucket')}"
    lines: list[Parts] = [((head, "head"),), ()]
    most = max(survey.buckets.values())
    room = max(min(width - _BAR_AND_NUMBERS, 60), 4)
    for bucket, count in sorted(survey.buckets.items(), key=lambda pair: (-pair[1], pair[0])):
        filled = bar(count / most, room, ascii_only=ascii_only())[0]
        filled = filled.strip("[") if ascii_only() else filled
        name = f"{bucket.width}x{bucket.height}"
        lines.append(((f"{name:<10}", ""), (f"{filled:<{room}}", "bar"), (f"{count:>8,} {_percent(count, total)}", "")))
    lines.append(())
    return lines + _remarks(survey, profile, drawing, width, only)


def skipped_page(survey: Survey, width: int) -> list[Parts]:
    """What is not used, by reason; then what is used all the same but is not as it should be."""
    lines: list[Parts] = []
    if not survey.skipped and not survey.problems:
        said = "Nothing is skipped: every picture can be used." if survey.finished else "Nothing is skipped so far."
        return paragraph(said, width, "good" if survey.finished else "dim")
    if survey.skipped:
        files = counted(len(survey.skipped), "file")
        lines += [((f"{files} skipped", "head"),), ()]
    for each in survey.skipped:
        lines += paragraph(below_a_root(survey, each.path), width, "attention")
        lines += [(("  ", ""), *line) for line in paragraph(each.reason, width - 2)]
    if survey.problems:
        lines += [*([()] if lines else []), (("Used, but", "head"),), ()]
    for problem in survey.problems:
        style = "bad" if problem.severity == "error" else "attention"
        lines += paragraph(_as_written(survey, problem.path), width, style)
        lines += [(("  ", ""), *line) for line in paragraph(f"{problem.text}. {problem.remedy}".strip(), width - 2)]
    return lines


def cache_page(state: CacheState | None, said: str, width: int) -> list[Parts]:
    """`said`: how far the look at it is, or why there is none."""
    if state is None:
        return paragraph(said, width, "dim")
    folder = shown(Path(home_path(state.folder)))
    lines: list[Parts] = [(("In the cache", "head"),), *paragraph(folder, width, "dim"), ()]
    lines += _tally("pictures", state.pictures, width)
    if state.captions is not None:
        lines += [(), *_tally("captions", state.captions, width)]
    else:
        lines += [(), *paragraph("Captions are not cached: the text encoders learn, and read them anew.", width)]
    for note in state.notes:
        lines += [(), *paragraph(plain(note), width, "dim")]
    if said:
        lines += [(), *paragraph(said, width, "dim")]
    return lines


def _tally(things: str, tally: Tally, width: int) -> list[Parts]:
    missing = tally.missing.total()
    total = tally.cached + missing
    done = tally.cached / total if total else 1.0
    filled, empty = bar(done, max(min(width - 28, 40), 6), ascii_only=ascii_only())
    numbers = f"  {tally.cached:,} of {total:,}"
    lines: list[Parts] = [((f"{things:<10}", ""), (filled, "bar"), (empty, "dim"), (numbers, ""))]
    if not missing:
        return [*lines, (("nothing would be encoded again", "good"),)]
    room = f", {size(tally.bytes)} to write" if tally.bytes else ""
    lines += paragraph(f"{missing:,} would be encoded{room}:", width)
    for why, count in tally.missing.most_common():
        first, *more = paragraph(why, width - 10)
        lines.append(((f"{count:>8,}  ", "attention"), *first))
        lines += [((" " * 10, ""), *line) for line in more]
    return lines


def _remarks(survey: Survey, profile: Profile, drawing: Drawing | None, width: int, only: str) -> list[Parts]:
    """What the engine would warn of, and what a batch is made of."""
    said = []
    if survey.uncaptioned:
        without = f"{counted(survey.uncaptioned, 'picture')} without a caption: the file's name is learnt"
        said.append((without, "attention"))
    if survey.cropped:
        said.append((f"{counted(survey.cropped, 'picture')} cropped by more than 15 %", "attention"))
    if survey.enlarged:
        said.append((f"{counted(survey.enlarged, 'picture')} enlarged to the bucket", "attention"))
    if said:
        said.append((f"{only} lists them by name", "dim"))
    if drawing is not None and drawing.cut:
        cut_off = f"{counted(drawing.cut, 'caption')} longer than {profile.data.max_tokens} tokens: the rest is cut"
        said.append((cut_off, "attention"))
    if drawing is not None:
        if drawing.held_out:
            said.append((f"{counted(drawing.held_out, 'picture')} held out: the run is measured by them", ""))
        epoch = f"{drawing.order.samples_per_epoch:,} samples in {drawing.order.batches_per_epoch:,} micro-batches"
        said.append((f"An epoch: {epoch}", ""))
        if drawing.partial:
            of = f"fewer than {profile.train.batch_size}: each is of one bucket"
            said.append((f"{drawing.partial:,} of them hold {of}", "dim"))
        said.append((f"The run: {_epochs(drawing.epochs)} in {profile.train.steps:,} steps", ""))
    return [line for text, style in said for line in paragraph(text, width, style)]


def _epochs(number: float) -> str:
    if number >= 10:
        return f"{number:,.0f} epochs"
    return f"{math.floor(100 * number) / 100:.2f} epochs"


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:>3.0f} %"


def _none_yet(survey: Survey) -> str:
    return "No picture can be used." if survey.finished else "No picture yet."


def _as_written(survey: Survey, path: str) -> str:
    """A folder of the profile as it is called there."""
    return next((root.text for root in survey.roots if str(root.path) == path), path)

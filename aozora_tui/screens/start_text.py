"""The page before a start, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from textual.content import Content

from aozora_tui.cards import none_fits
from aozora_tui.screens.ask import problem_lines
from aozora_tui.screens.field_words import EXAMPLES
from aozora_tui.screens.forecast_bar import OTHER, forecast_bar
from aozora_tui.screens.lines import entry_lines, value_text
from aozora_tui.screens.start_look import LastRun, Look
from aozora_tui.screens.words import FAINT, counted, plain, state_text
from aozora_tui.text import duration, printable, size
from engine.contract.layers import human
from engine.contract.outlook import Outlook
from engine.contract.profile_values import Difference
from engine.contract.sections import Profile

HEADING = "bold $primary"
_LABEL = 9  # columns; one more, and at 80 of them the bar of the card's memory has no room for its words
_GIB = 1 << 30
_BY = {
    "measured": "as this card was measured",
    "published": "by the card's published figures",
    "guessed": "guessed from another card's figures",
}


def page(look: Look, width: int) -> Content:
    """All of it, in lines of `width`: what is wrong first, if it forbids the start."""
    parts = [_problems(look, width), _takes(look, width), _changes(look, width)]
    order = parts if look.wrong else [parts[1], parts[0], parts[2]]
    return Content("\n").join([line for part in order if part for line in (*part, Content())][:-1])


def title(look: Look | None) -> str:
    """How long, how much at once, of what: what one knows a run by."""
    if look is None or look.profile is None:
        return ""
    train, learns = look.profile.train, look.profile.objective.prediction_type
    return plain(f"{train.steps:,} steps of {train.batch_size * train.accumulate} · {learns}")


def _takes(look: Look, width: int) -> list[Content]:
    profile, ahead = look.profile, look.verdict.checked.outlook
    if profile is None:
        return []
    rows = list(_pictures(look, profile))
    if ahead is not None:
        rows = [*_learns(ahead), *rows, *_memory(look, ahead, width - _LABEL), *_time(ahead, profile)]
    elif not look.wrong:
        rows.append(("memory", Content("known once the demo's files are there: the run begins with building them")))
    return [Content.styled("What it takes", HEADING), *(line for row in rows for line in _row(*row, width))]


def _on_processor(ahead: Outlook, profile: Profile, *, card: bool) -> str:
    """A sentence for a run that uses no card; "" for one that does."""
    if profile.memory.device == "cpu":
        return "it trains on the processor, as memory.device says: many times slower than on a card"
    if card or ahead.rates is not None:
        return ""
    return "no card can be found here: it would train on the processor, many times slower than on a card"


def _learns(ahead: Outlook) -> Iterator[tuple[str, Content]]:
    cost = ahead.cost
    share = 100 * cost.trained / max(cost.total, 1)
    yield "trains", Content(f"{human(cost.trained)} of {human(cost.total)} parameters, {share:.1f} %")


def _pictures(look: Look, profile: Profile) -> Iterator[tuple[str, Content]]:
    """How often each is drawn is what most often is not what was meant."""
    survey, folders = look.survey, counted(len(profile.data.folders), "folder")
    if survey is None:
        yield "pictures", Content.styled(f"in {folders}; they are looked through", FAINT)
        return
    usable, skipped = len(survey.placed), len(survey.skipped)
    text = f"{usable:,} of {usable + skipped:,} in {folders}" if skipped else f"{usable:,} in {folders}"
    if look.drawing is not None:
        drawn, epochs = f"{'' if look.exact else 'about '}{look.drawing.samples:,}", look.drawing.epochs
        text += (
            f"; {drawn} are drawn: {epochs:,.0f} epochs" if epochs >= 9.5 else f"; {drawn} drawn: {epochs:.1f} epochs"
        )
        if held := look.drawing.held_out:
            text += f"; {held:,} held out"
    if look.undrawable:
        yield "pictures", Content.styled(f"{text}. {look.undrawable}: the run would not start", "$warning")
        return
    if look.last is not None and look.last.encoded:
        text += f". {look.last.summary.name} has encoded them, except for what is new"
    yield "pictures", Content(f"{text}.")


def _memory(look: Look, ahead: Outlook, width: int) -> Iterator[tuple[str, Content]]:
    cost, usable = ahead.cost, look.verdict.usable
    leanest = f"; the leanest, {cost.choice}, needs what stands below" if none_fits(ahead) else ""
    yield "plan", Content.styled(f"{ahead.plan}{leanest}", "$warning" if none_fits(ahead) else "")
    if usable is not None or not ahead.plan.endswith("on the processor"):
        over = usable is not None and cost.device > usable
        of = f" of {usable / _GIB:.1f}" if usable is not None else ""
        sign = "  ! more than there is" if over else ""
        yield "card", Content.styled(f"{cost.device / _GIB:.1f}{of} GiB{sign}", "$warning" if over else "")
        yield "", forecast_bar(cost, look.verdict.card, width)
        if cost.overhead:
            yield "", Content.styled(OTHER, FAINT)
        host = cost.host
    else:
        host = cost.device + cost.host
    free = ahead.host_free
    short = free is not None and host > free
    of = f" of {free / _GIB:.1f} free" if free is not None else ""
    yield "host", Content.styled(f"{host / _GIB:.1f} GiB{of}{'  !' if short else ''}", "$warning" if short else "")
    export = f", export {size(cost.export)}" if cost.export else ""
    of = f" of {size(look.free)} free" if look.free is not None else ""
    yield "disk", Content(f"{size(cost.disk)}{of} (a checkpoint {size(cost.checkpoint)}{export})")


def _time(ahead: Outlook, profile: Profile) -> Iterator[tuple[str, Content]]:
    if ahead.hours is None or ahead.rates is None:
        yield "time", Content.styled("not known: no card here says how fast it is", FAINT)
        return
    step = ahead.hours * 3600 / profile.train.steps
    text = f"about {duration(3600 * ahead.hours)}, {duration(step) if step >= 10 else f'{step:.2g} s'} a step"
    yield "time", Content.assemble(text, (f", {_BY[ahead.rates.source]}; previews, saving and encoding apart", FAINT))


def _problems(look: Look, width: int) -> list[Content]:
    found, ahead = look.problems, look.verdict.checked.outlook
    slow = _on_processor(ahead, look.profile, card=look.has_card) if ahead and look.profile else ""
    heading, style = "No problem", "bold $success"
    if look.wrong:
        heading, style = f"It cannot start: {counted(len(look.wrong), 'problem')}", "bold $error"
    elif found or look.live or slow:
        heading, style = "It can start, but read this first", "bold $warning"
    lines = [Content.styled(f"! {heading}" if found or look.live or slow else plain(f"✓ {heading}"), style)]
    if slow:
        lines += _hanging(Content.styled(f"note  {slow}", "$warning"), width, 6)
    if look.live:
        names = ", ".join(look.live)
        text = f"note  {names} {'goes' if len(look.live) == 1 else 'go'} on meanwhile: card, memory and disk are shared"
        lines += _hanging(Content.styled(text, "$warning"), width, 6)
    for line in problem_lines(found):
        lines += _hanging(line, width, 6)
    return lines


def _changes(look: Look, width: int) -> list[Content]:
    last = look.last
    if last is None:
        return [Content.styled("The first run of this profile", HEADING)]
    lines = [Content.assemble(("Since its last run", HEADING), (f"   {_told(last)}", FAINT))]
    if last.changes is None:
        said = "nothing to compare: its profile cannot be read" if look.profile else "compared once nothing is wrong"
        return [*lines, Content.styled(said, FAINT)]
    if not last.changes:
        return [*lines, Content("no setting has changed")]
    return [*lines, *(line for change in last.changes for line in _change(change, width))]


def _told(last: LastRun) -> str:
    summary = last.summary
    at = f", {summary.step:,}/{summary.steps:,}" if summary.steps else ""
    return f"{summary.name}: {state_text(summary.state)}{at}"


def _change(change: Difference, width: int) -> list[Content]:
    field = change.field
    before, after = (_short(value, field.path) for value in (change.before, change.after))
    text = Content.assemble((f"{field.path}  ", "bold"), before, (" -> ", FAINT), (after, "$accent"))
    return _hanging(text, width, 4)


def _short(value: Any, path: str) -> str:
    if isinstance(value, list | tuple | dict):
        said = ", ".join(entry_lines(value))
        return printable(said) if said else ("none" if path in EXAMPLES or not value else "empty")
    return printable(value_text(value)) or "empty"


def _row(label: str, text: Content, width: int) -> list[Content]:
    head = Content.styled(f"{label:<{_LABEL}}", FAINT)
    return _hanging(Content.assemble(head, text), width, _LABEL)


def _hanging(text: Content, width: int, indent: int) -> list[Content]:
    """Wrapped to `width`, the later lines indented."""
    first = text.wrap(width)[0]
    rest = text[len(first) :]
    rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
    if not rest:
        return [first]
    return [first, *(Content.assemble(" " * indent, line) for line in rest.wrap(max(width - indent, 20)))]

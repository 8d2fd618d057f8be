"""The event stream as plain lines of text: for pipes, log files, `TERM=dumb` and people who like it so."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from aozora_tui.cards import none_fits
from aozora_tui.text import duration, printable, rate, scaled, sentence, size, updates
from engine.contract import events, places
from engine.contract.budget import GIB, Forecast
from engine.contract.layers import human
from engine.contract.outlook import Outlook
from engine.contract.sections import Model, Objective, Train
from engine.contract.timesteps import mean_weight
from engine.contract.tokenizer_files import TokenizerError, find_tokenizers

PHASES = {
    "demo": "building the demo's files",
    "scan": "looking through the pictures",
    "cache": "encoding pictures and captions",
    "load": "loading the checkpoint",
    "compile": "trying the compiler",
    "preflight": "trying everything once",
    "train": "training",
    "validate": "measuring the loss on held-out pictures",
    "preview": "drawing previews",
    "save": "saving a checkpoint",
    "export": "writing the export",
}
# The one base of which nothing can be known before the run.
NOT_BUILT = "cost           known once the demo's files are there: the run begins with building them"
# Weight of the newest micro-batch time in the mean that the ETA rests on.
_NEWEST = 0.1


@dataclass(frozen=True)
class View:
    """What the lines so far have said: enough for the next one. `tenth` is the last tenth of a phase's progress that
    was printed; `pace` the mean seconds of a micro-batch; `held` the line of a return to training, which waits for more
    training to come. Paths in events start at `folder`, the run's; `exports` are those that this start has written."""

    run: str
    folder: Path = Path()
    steps: int = 0
    accumulate: int = 1
    pace: float | None = None
    tenth: int = -1
    phase: str = ""
    held: str = ""
    exports: tuple[str, ...] = ()


def fold(view: View, event: events.AnyEvent) -> tuple[View, list[str]]:
    """The view after `event`, and the lines that it is worth: often one, for a sign of life none."""
    if isinstance(event, events.Phase):
        # After the last checkpoint the engine goes back to training only to end.
        view, held = replace(view, tenth=-1, phase=event.name, held=""), event.name == "train" and view.phase == "save"
        line = _phase(event, again=event.name == "export" and bool(view.exports))
        return (replace(view, held=line), []) if held else (view, [line])
    before = [view.held] if view.held and not isinstance(event, events.Finished | events.Failed) else []
    view, said = _fold(replace(view, held=""), event)
    return view, before + said


def _fold(view: View, event: events.AnyEvent) -> tuple[View, list[str]]:
    match event:
        case events.Started():
            view = View(run=event.run, folder=view.folder, steps=event.steps, accumulate=event.accumulate)
            return view, [_started(event)]
        case events.Progress():
            tenth = event.done * 10 // event.total if event.total > 0 else 0
            lines = [_progress(event)] if tenth > view.tenth else []
            return replace(view, tenth=max(tenth, view.tenth)), lines
        case events.Step():
            known = view.pace is not None and math.isfinite(view.pace)
            pace = (1 - _NEWEST) * (view.pace or 0.0) + _NEWEST * event.seconds if known else event.seconds
            view = replace(view, pace=pace)
            return view, [_step(view, event)]
        case events.Micro():
            return view, []
        case events.Saved(kind="export"):
            return replace(view, exports=_with(view.exports, event.path)), _other(view, event)
        case _:
            return view, _other(view, event)


def forecast(cost: Forecast) -> list[str]:
    """What a run will cost, in a few lines. Memory in GiB, as cards are sold; files in GB, as disks are."""
    share = 100 * cost.trained / cost.total if cost.total else 0.0
    parts = {
        "weights": cost.weights,
        "gradients": cost.gradients,
        "optimizer": cost.optimizer,
        "activations": cost.activations,
        "overhead": cost.overhead,
    }
    split = ", ".join(f"{name} {amount / GIB:.2f}" for name, amount in parts.items())
    return [
        f"trains         {human(cost.trained)} of {human(cost.total)} parameters ({share:.1f} %)",
        f"device memory  {cost.device / GIB:.2f} GiB ({split})",
        f"host memory    {cost.host / GIB:.2f} GiB",
        f"disk           {size(cost.disk)} (checkpoint {size(cost.checkpoint)}, export {size(cost.export)})",
    ]


def outlook(found: Outlook, train: Train) -> list[str]:
    """Under which plan, and for how long. What of the host's memory is free, if nothing tells."""
    least = f": the leanest, {found.cost.choice}, needs what stands above" if none_fits(found) else ""
    lines = [f"plan           {found.plan}{least}"]
    if found.hours is not None and found.rates is not None:
        source = {
            "measured": "as this card was measured",
            "published": "by the card's published figures: `python -m engine bench` measures it",
            "guessed": "guessed from another card's figures: `python -m engine bench` measures this one",
        }[found.rates.source]
        pictures = train.accumulate * train.batch_size
        lines.append(f"time           about {_hours(found.hours)} for {train.steps} x {pictures} pictures ({source})")
    if found.host_free is None:
        lines.append("               what is free of the host's memory cannot be read here, so it is not checked")
    return lines


def _hours(hours: float) -> str:
    return (
        f"{hours:,.0f} hours" if hours >= 9.5 else f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    )


def tokenizer(model: Model, start: Path) -> str:
    """Where CLIP's tokenizer will be taken from; relative names start at `start`."""
    from engine.contract.check import is_demo

    base, folder = places.expand(model.base, start), None
    if model.tokenizer:
        folder = places.expand(model.tokenizer, start)
        if is_demo(folder) and not folder.exists():
            return "tokenizer      the demo's own"
    try:
        first, second = find_tokenizers(folder, base)
    except TokenizerError as error:
        return f"tokenizer      from the Hugging Face hub: {error.text}"
    return f"tokenizer      {first}" + (f" and {second}" if second != first else "")


def objective(settings: Objective) -> str:
    """What is learnt, and how much an error counts on average where it is drawn."""
    terminal = ", zero terminal SNR" if settings.zero_terminal_snr else ""
    weighed = f"weight {settings.loss_weight}, on average {mean_weight(settings):.3g} over the timesteps drawn"
    return f"learns         {settings.prediction_type}{terminal}; timesteps {settings.timesteps}; {weighed}"


def _started(event: events.Started) -> str:
    begin = f"resumed after step {event.step} of {event.steps}" if event.step else f"started: {event.steps} steps"
    window = f"{event.accumulate} x {event.batch_size} pictures a step"
    learning = f"{human(event.parameters_trained)} of {human(event.parameters_total)} parameters"
    return printable(f"{event.run} {begin}, {window}, {learning}, plan {event.plan}, on {event.device}")


def _phase(event: events.Phase, *, again: bool = False) -> str:
    name = "writing the second export" if again else PHASES.get(event.name, event.name)
    return printable(name) + (f", step {event.step}" if event.step is not None else "")


def _with(exports: tuple[str, ...], path: str) -> tuple[str, ...]:
    return (*exports, path) if path not in exports else exports


def _progress(event: events.Progress) -> str:
    return printable(
        f"  {event.phase} {event.done}/{event.total} {event.unit}  {rate(event.rate, event.unit)}".rstrip()
    )


def _step(view: View, event: events.Step) -> str:
    parts = [
        f"step {event.step}/{view.steps}" if view.steps else f"step {event.step}",
        f"loss {event.loss:.4f}",
        f"lr {event.lr:.1e}",
        f"grad {event.grad_norm:.2f}" + (" clipped" if event.clipped else ""),
        f"{event.seconds:.2f} s/micro-batch",
        f"{event.samples_per_second:.1f} samples/s",
    ]
    if event.updates:
        parts.append(f"update/weight {updates(event.updates)}")
    left = view.steps - event.step
    if left > 0 and view.pace is not None:
        parts.append(f"ETA {duration(left * view.accumulate * view.pace)}")
    return "  ".join(parts)


def _other(view: View, event: events.AnyEvent) -> list[str]:
    match event:
        case events.Skipped():
            named = f" ({', '.join(event.names)})" if event.names else ""
            line = f"step {event.step} skipped: {event.reason}{named}; nothing was changed"
        case events.Damped():
            line = f"step {event.step} damped: loss {event.loss:.4f} is above {event.limit:.4f}"
            line += f", so its gradient counts x {event.factor:.2g}"
        case events.Steered():
            line = scaled(event.factor, event.step + 1)
        case events.Validated():
            of = f"{event.pictures} held-out picture{'' if event.pictures == 1 else 's'}"
            line = f"validation loss {event.loss:.4f} after step {event.step} (on {of}, in {duration(event.seconds)})"
        case events.Sampled():
            line = f"preview of step {event.step}: {view.folder / event.path}"
        case events.Saved():
            cost = f"({size(event.bytes)} in {event.seconds:.1f} s)"
            line = f"{event.kind} of step {event.step}: {view.folder / event.path} {cost}"
        case events.Paused():
            line = f"paused after step {event.step}: `aozora-tui resume {view.run}` lets it go on"
        case events.Unpaused():
            line = f"goes on after step {event.step}"
        case events.Refused():
            line = f"{event.command} was refused: {sentence(event.text)}"
        case events.Warned():
            line = f"warning: {sentence(event.text)} {sentence(event.remedy)}".rstrip()
        case events.Compiled():
            line = f"the transformer blocks were compiled in {event.seconds:.0f} s"
        case events.Planned():
            return [printable(f"plan {event.why}")] if event.room else []
        case events.Failed():
            return failure(event)
        case events.Finished():
            line = f"{event.reason} at step {event.step} after {duration(event.seconds)}"
            if event.reason == "stopped":
                line += f": `aozora-tui resume {view.run}` goes on from there"
            exports = _with(view.exports, event.export) if event.export else ()
            return [printable(text) for text in (line, *(f"export: {view.folder / path}" for path in exports))]
        case _:
            return []
    return [printable(line)]


def failure(event: events.Failed) -> list[str]:
    """A failure in up to three lines: what, where, what to do."""
    parts = [f"failed: {sentence(event.text)}", event.where and f"  where: {event.where}", f"  {event.remedy}".rstrip()]
    return [printable(part) for part in parts if part]

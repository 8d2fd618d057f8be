"""The commands that look at things: profiles, checkpoints, the machine. Heavy imports are inside them."""

import sys
from typing import TYPE_CHECKING

from aozora_tui import commands
from aozora_tui.commands import complain_of, to_json
from aozora_tui.context import Context, RefusedError
from aozora_tui.terminal import complain, fitted, say

MOST_NAMED = 1000  # pictures that cannot be used

if TYPE_CHECKING:
    from pathlib import Path

    from engine.contract.check import Checked
    from engine.contract.problems import Problem
    from engine.contract.sections import Profile


def check(context: Context) -> int:
    import msgspec

    from aozora_tui.find_profile import find_profile
    from engine.contract.problems import errors

    path = find_profile(context.args.profile)
    checked = commands.check(path, context)
    problems = (*checked.problems, *(checked.outlook.problems if checked.outlook else ()))
    if checked.profile is not None:
        problems += _of_pictures(checked.profile, path.parent)
    ok = checked.ok and not errors(problems)
    if context.args.json:
        cost = checked.forecast
        document = {"profile": str(path), "ok": ok, "problems": msgspec.to_builtins(problems)}
        ahead = checked.outlook
        forecast = None if cost is None else {**msgspec.to_builtins(cost), "device": cost.device}
        if forecast is not None and ahead is not None:
            source = ahead.rates.source if ahead.rates else None
            forecast |= {"plan": ahead.plan, "hours": ahead.hours, "rates": source}
        say(to_json({**document, "forecast": forecast}))
        return 0 if ok else 2
    complain_of(path, problems)
    if ok:
        say(f"{path} can be trained")
    for line in _summary(checked, path.parent):
        for part in fitted(line, sys.stdout, indent=" " * 15):
            say(part)
    return 0 if ok else 2


def _of_pictures(profile: "Profile", start: "Path") -> "tuple[Problem, ...]":
    """Every folder is looked through, as a run does it; here there is room for all names."""
    from aozora_tui.dataset_survey import survey_of, unusable
    from aozora_tui.pictures_look import is_unbuilt

    return () if is_unbuilt(profile, start) else unusable(survey_of(profile, start), named=MOST_NAMED)


def _summary(checked: "Checked", start: "Path") -> list[str]:
    """What a profile will do and cost; of one that is wrong only the cost. Relative names start at `start`."""
    from aozora_tui import learning, plain

    cost, profile = checked.forecast, checked.profile
    if profile is None:
        return []
    said = [plain.tokenizer(profile.model, start), plain.objective(profile.objective)] if checked.ok else []
    if cost is None:
        return [*said, plain.NOT_BUILT] if checked.ok else []
    ahead = plain.outlook(checked.outlook, profile.train) if checked.outlook else []
    return [*said, *learning.rates_line(profile, start), *plain.forecast(cost), *ahead]


def doctor(context: Context) -> int:
    import msgspec

    from aozora_tui import doctor

    findings = doctor.examine(context.settings.with_keys().problems)
    if context.args.json:
        say(to_json(msgspec.to_builtins(findings)))
    else:
        for line in doctor.lines(findings):
            say(line)
    return 1 if any(finding.level == "wrong" for finding in findings) else 0


def settings(context: Context) -> int:
    """The exit code is 2 if something in them is wrong."""
    from aozora_tui import editor, settings_file, settings_report
    from engine.contract.problems import errors

    args, held = context.args, context.settings.with_keys()
    if args.example:
        say(settings_report.example().rstrip("\n"))
        return 0
    if args.edit:
        editor.edit(settings_file.made(held))
        held = held.read_again()
        for problem in held.problems:
            complain(f"{problem.severity}: {problem}")
    elif args.json:
        say(to_json(settings_report.document(held)))
    else:
        for line in settings_report.lines(held):
            say(line)
    return 2 if errors(held.problems) else 0


def schema(context: Context) -> int:
    from engine.contract import schema
    from engine.contract.atomic import write_text

    text = schema.text()
    if context.args.output is None:
        say(text.rstrip("\n"))
    else:
        write_text(context.args.output, text)
    return 0


def inspect(context: Context) -> int:
    import msgspec

    from aozora_tui import inspect_file
    from engine.contract.safetensors_header import CheckpointError

    try:
        found = inspect_file.inspect(context.args.file)
    except CheckpointError as error:
        raise RefusedError(f"{error}.") from None
    if context.args.json:
        say(to_json(msgspec.to_builtins(found)))
    else:
        for line in inspect_file.lines(found):
            say(line)
    return 0


def layers(context: Context) -> int:
    import msgspec

    from aozora_tui import layers_report
    from aozora_tui.terminal import ascii_only
    from aozora_tui.text import printable
    from engine.contract.safetensors_header import CheckpointError

    args = context.args
    try:
        chosen = layers_report.look(args.source, args.train, args.freeze, depth=args.depth)
    except CheckpointError as error:
        raise RefusedError(f"{error}.") from None
    told = layers_report.lines(chosen, ascii_only=ascii_only())
    for line in [to_json(msgspec.to_builtins(chosen))] if args.json else told:
        say(line)
    for pattern, remedy in chosen.unmatched.items():
        complain(printable(f"{pattern} matches no layer. {remedy}"))
    if not chosen.trained:
        complain("nothing is left to train: select at least one layer.")
    return 2 if chosen.unmatched or not chosen.trained else 0


def diff(context: Context) -> int:
    from aozora_tui import diff_files, diff_process
    from aozora_tui.text import printable
    from engine.contract.safetensors_header import CheckpointError

    args = context.args
    try:
        with diff_process.StatusLine() as status:
            found, document = diff_process.compare(
                args.a, args.b, every=args.all, engine_command=context.engine, progress=status.show
            )
    except CheckpointError as error:
        raise RefusedError(printable(f"{error}.")) from None
    for line in (document,) if args.json else diff_files.lines(found):
        say(line)
    return 0

"""The commands that look at things: profiles, checkpoints, the machine. Heavy imports are inside them."""

import sys

from aozora_tui.commands import Context, complain_of, to_json
from aozora_tui.terminal import complain, fitted, say


def check(context: Context) -> int:
    import msgspec

    from aozora_tui import plain
    from aozora_tui.find_profile import find_profile
    from engine.contract.check import check_file

    path = find_profile(context.args.profile)
    checked = check_file(path)
    cost = checked.forecast
    if context.args.json:
        document = {"profile": str(path), "ok": checked.ok, "problems": msgspec.to_builtins(checked.problems)}
        forecast = None if cost is None else {**msgspec.to_builtins(cost), "device": cost.device}
        say(to_json({**document, "forecast": forecast}))
        return 0 if checked.ok else 2
    complain_of(path, checked.problems)
    if checked.ok:
        say(f"{path} can be trained")
    said = plain.forecast(cost) if cost else []
    if checked.profile and checked.ok:
        said = [plain.tokenizer(checked.profile.model, path.parent), plain.objective(checked.profile.objective), *said]
    for line in said:
        for part in fitted(line, sys.stdout, indent=" " * 15):
            say(part)
    return 0 if checked.ok else 2


def doctor(context: Context) -> int:
    import msgspec

    from aozora_tui import doctor

    findings = doctor.examine()
    if context.args.json:
        say(to_json(msgspec.to_builtins(findings)))
    else:
        for line in doctor.lines(findings):
            say(line)
    return 1 if any(finding.level == "wrong" for finding in findings) else 0


def inspect(context: Context) -> int:
    import msgspec

    from aozora_tui import inspect_file
    from engine.contract.safetensors_header import CheckpointError

    try:
        found = inspect_file.inspect(context.args.file)
    except CheckpointError as error:
        complain(f"{error}.")
        return 1
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
        complain(f"{error}.")
        return 1
    told = layers_report.lines(chosen, ascii_only=ascii_only())
    for line in [to_json(msgspec.to_builtins(chosen))] if args.json else told:
        say(line)
    for pattern, remedy in chosen.unmatched.items():
        complain(printable(f"{pattern} matches no layer. {remedy}"))
    return 2 if chosen.unmatched else 0


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
        complain(printable(f"{error}."))
        return 1
    for line in (document,) if args.json else diff_files.lines(found):
        say(line)
    return 0

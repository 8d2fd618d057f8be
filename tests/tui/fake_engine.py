"""A fake engine: takes the real one's arguments and lock, writes its events, obeys commands; trains nothing.

`python fake_engine.py [--steps N] [--pace SECONDS] ... train PROFILE --run FOLDER`, see `arguments`.
"""

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

from engine.contract import events, problems, rundir

stopping = False


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--die-at", type=int, default=-1)
    parser.add_argument("--fail-at", type=int, default=-1)
    parser.add_argument("--torn", action="store_true", help="die in the middle of a line")
    parser.add_argument("--linger", type=float, default=0.0, help="seconds between its last word and its end")
    parser.add_argument("--mute", action="store_true", help="die before the first event, with a word in the log")
    parser.add_argument("--refuse", action="store_true", help="find the profile wrong")
    parser.add_argument("--torch-says", help="what `verify` finds wrong with optimizer.arguments")
    parser.add_argument("--torch-dies", action="store_true", help="`verify` ends without an answer")
    parser.add_argument("command", choices=["train", "verify"])
    parser.add_argument("profile", nargs="?", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--resume", type=Path)
    return parser.parse_args()


def on_signal(number, frame):
    global stopping
    stopping = True


def main():
    args = arguments()
    if args.command == "verify":
        return verify(args)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = rundir.RunDir(args.resume or args.run)
    if args.mute:
        sys.stderr.write("MemoryError: the fake engine could not begin\n")
        return 1
    if args.refuse:
        sys.stderr.write("cat.toml: 1 problem(s)\n")
        return 2
    lock = rundir.acquire(run)
    token = rundir.new_token()
    run.info.write_bytes(info(run, token))
    if args.resume is None:
        run.profile.write_text(args.profile.read_text())
    descriptor = os.open(run.events, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    code = train(args, run, token, lambda event: os.write(descriptor, events.encode(event)))
    if args.torn:
        os.write(descriptor, b'{"event":"step","st')
    os.close(lock)
    signal.sigtimedwait([signal.SIGTERM], args.linger)
    return code


def verify(args):
    if args.torch_dies:
        sys.stderr.write("Traceback (most recent call last):\nImportError: no torch here\n")
        return 1
    found = [problems.Problem("optimizer.arguments", args.torch_says, "Correct it.")] if args.torch_says else []
    sys.stdout.write(rundir.msgspec.json.encode({"problems": found}).decode() + "\n")
    return 2 if found else 0


def train(args, run, token, write):
    first = max((int(folder.name[5:]) for folder in run.checkpoints.iterdir()), default=0)
    write(started(run, token, first, args.steps))
    step, paused = first, False
    while step < args.steps and not stopping:
        taken, _ = rundir.take_commands(run, token)
        obeyed = [each.command for each in taken]
        for each in taken:
            if each.command == "lr":
                write(events.Steered(step=step, factor=each.value, time=time.time()))
        for name in ("save", "sample"):
            if name in obeyed:
                write(events.Refused(command=name, text=f"step {step} has it already", time=time.time()))
        if "stop" in obeyed:
            break
        if "pause" in obeyed:
            paused = True
            write(events.Paused(step=step, time=time.time()))
        if "resume" in obeyed:
            paused = False
            write(events.Unpaused(step=step, time=time.time()))
        time.sleep(args.pace)
        if paused:
            continue
        step += 1
        if step == args.die_at:
            return 137
        if step == args.fail_at:
            write(events.Failed(code="loss", text="the loss is not finite", remedy="Lower it.", time=time.time()))
            return 1
        write(one_step(step))
    save(run, step)
    reason = "finished" if step >= args.steps else "stopped"
    export = "exports/model.safetensors" if reason == "finished" else None
    write(events.Finished(step=step, reason=reason, seconds=1.0, export=export, time=time.time()))
    return 0


def save(run, step):
    folder = run.checkpoints / f"step-{step:06}"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text("{}")


def info(run, token):
    return rundir.msgspec.json.encode(
        rundir.RunInfo(
            name=run.name,
            profile_name="fake",
            profile_digest="0" * 16,
            token=token,
            pid=os.getpid(),
            process_start=rundir.process_start(os.getpid()),
            boot_id=rundir.boot_id(),
            host=socket.gethostname(),
            protocol=events.PROTOCOL,
            versions={},
            created=time.time(),
            started=time.time(),
        )
    )


def started(run, token, step, steps):
    return events.Started(
        time=time.time(),
        protocol=events.PROTOCOL,
        run=run.name,
        token=token,
        step=step,
        steps=steps,
        accumulate=4,
        batch_size=1,
        plan="plain",
        parameters_trained=10,
        parameters_total=20,
        device="cpu",
    )


def one_step(step):
    return events.Step(
        time=time.time(),
        step=step,
        loss=0.5 / step,
        lr=1e-6,
        grad_norm=0.25,
        clipped=False,
        seconds=0.1,
        samples_per_second=10.0,
        memory_peak=0,
        memory_reserved=0,
    )


if __name__ == "__main__":
    sys.exit(main())

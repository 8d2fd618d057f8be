"""`aozora-tui diff`: with the real engine where the two meet, with a stand-in where the moment matters."""

import json
import os
import pty
import signal
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from processes import is_alive, until

from aozora_tui import cli, diff_files
from engine.contract.comparison import (
    Comparison,
    MatrixRank,
    MetadataDifference,
    Names,
    NotFinite,
    RankTest,
    Recast,
    Reshaped,
    Row,
    Side,
)

ROOT = Path(__file__).parents[2]
RUNNER = "import sys; from aozora_tui.cli import main; sys.exit(main(sys.argv[2:], engine=sys.argv[1].split('|')))"
NOTHING = Names(count=0, first=())
# It says that it has begun, leaves its number, and then does as it is told.
STAND_IN = """\
import os, pathlib, signal, sys
sys.stderr.write('{"event":"progress","phase":"comparing","done":1500000,"total":3000000,"unit":"bytes","rate":1e6}\\n')
sys.stderr.flush()
pathlib.Path("PLACE/pid").write_text(str(os.getpid()))
"""


def write(path, **tensors):
    """A safetensors file of float32 numbers."""
    header, data = {}, b""
    for name, numbers in tensors.items():
        raw = struct.pack(f"<{len(numbers)}f", *numbers)
        header[name] = {"dtype": "F32", "shape": [len(numbers)], "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture
def pair(tmp_path):
    return write(tmp_path / "a", one=[1.0, 2.0], two=[3.0]), write(tmp_path / "b", one=[1.0, 2.5], two=[3.0])


@pytest.fixture
def stand_in(tmp_path):
    """A command that starts a stand-in for the engine; `then` is the rest of its script."""

    def command(then):
        script = tmp_path / "stand_in.py"
        script.write_text(STAND_IN.replace("PLACE", str(tmp_path)) + then)
        return [
            sys.executable,
            "-c",
            RUNNER,
            f"{sys.executable}|{script}",
            "diff",
            *map(str, (tmp_path / "a", tmp_path / "b")),
        ]

    return command


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_engine_compares_and_the_command_tells(pair, capfd):
    assert cli.main(["diff", *map(str, pair)]) == 0
    said = capfd.readouterr()
    lines = said.out.splitlines()
    assert lines[:2] == [
        "B differs from A, in no matrix that the rank test could judge: 1 of 2 other",
        "  tensors changed, by 22.4 %.",
    ]
    assert lines[-1].split() == ["other", "1", "of", "2", "33.3", "%", "22.4", "%", "0.5"]
    assert said.err == ""


def test_diff_in_json_is_one_document(pair, capfd):
    assert cli.main(["diff", *map(str, pair), "--json", "--all"]) == 0
    document = capfd.readouterr().out
    found = msgspec.json.decode(document, type=Comparison, strict=True)
    assert (found.a.file, found.b.file) == tuple(map(str, pair))
    assert (found.rows[0].changed, found.rows[0].max_abs) == (1, 0.5)
    assert len(document.splitlines()) == 1


def test_a_wrong_file_is_one_sentence_and_exit_1_before_the_engine_starts(pair, capsys):
    page = pair[0].with_name("page")
    page.write_text("<!DOCTYPE html><html>")
    assert cli.main(["diff", str(pair[0]), str(page)], engine=["/nowhere"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"{page} is a web page saved under this name: the download needs a login or another link."
    ]
    assert cli.main(["diff", str(pair[0]), str(page.with_name("none"))], engine=["/nowhere"]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_wrong_arguments_exit_2(pair, capsys):
    assert cli.main(["diff", str(pair[0])]) == 2
    assert cli.main(["diff", *map(str, pair), "more"]) == 2


def test_an_engine_that_fails_exits_1_with_its_last_words(pair, stand_in):
    done = subprocess.run(stand_in("sys.exit('the disk is gone')"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the disk is gone\n")
    done = subprocess.run(stand_in("os._exit(7)"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "exit code 7" in done.stderr


def test_ctrl_c_ends_both_and_exits_130(pair, stand_in, tmp_path):
    app = subprocess.Popen(
        stand_in("signal.pause()"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell has what it runs in the background ignore Ctrl-C, and so all that this starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    engine = int((tmp_path / "pid").read_text())
    app.send_signal(signal.SIGINT)  # to the app alone: nobody else tells the engine
    out, err = app.communicate(timeout=20)
    assert (app.returncode, out, err) == (130, "", "")
    assert not is_alive(engine)


def test_an_engine_whose_app_was_killed_ends_by_itself(pair, tmp_path):
    code = "import sys; from engine.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "diff", *map(str, pair)]
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    engine.stderr.close()
    assert engine.wait(60) == 1
    assert engine.stdout.read() == b""
    engine.stdout.close()


def test_progress_is_one_line_on_a_terminal_and_wiped(pair, stand_in, tmp_path):
    document = subprocess.run(
        [sys.executable, "-m", "engine", "diff", *map(str, pair)], capture_output=True, check=True, cwd=ROOT
    )
    assert {json.loads(line)["event"] for line in document.stderr.splitlines()} == {"progress"}
    (tmp_path / "document").write_bytes(document.stdout)
    command = stand_in(f"sys.stdout.write(open({str(tmp_path / 'document')!r}).read())")
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=environment, check=False)
    os.close(terminal)
    shown = os.read(screen, 1 << 16).decode()
    os.close(screen)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].split()[0] == b"other"
    text = "comparing 1.5 MB of 3 MB  1 MB/s"
    assert shown == f"\r{text}\r{' ' * len(text)}\r"


def test_progress_is_silent_on_a_dumb_terminal(pair, stand_in):
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "dumb"}
    subprocess.run(stand_in("sys.exit('over')"), stderr=terminal, env=environment, check=False)
    os.close(terminal)
    assert os.read(screen, 1 << 16).decode() == "over\r\n"
    os.close(screen)


# -- the words ---------------------------------------------------------------------------------------------------------

BLOCKS = (
    *("conv_in", "time_embedding", "add_embedding", "down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block"),
    *("up_blocks.0", "up_blocks.1", "up_blocks.2", "conv_norm_out", "conv_out"),
)
KINDS = ("attn1", "attn2", "ff", "norms", "projections", "resnets", "samplers", "embeddings", "in and out")


def side(**fields):
    plain = {
        "file": "x.safetensors",
        "bytes": 6_940_000_000,
        "architecture": "SDXL base",
        "prediction_type": "epsilon",
        "zero_terminal_snr": False,
        "tensors": 2515,
        "dtypes": {"F16": 3_469_000_000},
    }
    return Side(**(plain | fields))


def a_row(part, block="", kind="", *, tensors=100, changed=0, recast=0, relative=0.0012):
    return Row(
        part=part,
        block=block,
        kind=kind,
        tensors=tensors,
        recast=recast,
        changed=changed,
        elements=1_000_000,
        elements_changed=999_900 if changed else 0,
        relative_change=relative if changed else None,
        max_abs=0.00123 if changed else 0.0,
    )


def a_rank(verdict, *, full=0, low_rank=0, undecided=0, rank=0, changed=743, matrices=()):
    examined = full + low_rank + undecided
    return RankTest(
        verdict=verdict,
        changed=changed,
        examined=examined,
        full=full,
        low_rank=low_rank,
        undecided=undecided,
        rank=rank,
        effective_share=0.81 if examined else None,
        stable_rank=12.0 if examined else None,
        matrices=matrices,
    )


def a_comparison(rows, rank, **fields):
    plain = {
        "a": side(),
        "b": side(),
        "identical": False,
        "only_a": NOTHING,
        "only_b": NOTHING,
        "reshaped_count": 0,
        "reshaped": (),
        "recast": (),
        "not_finite_count": 0,
        "not_finite": (),
        "metadata": (),
    }
    return Comparison(**(plain | fields), rows=tuple(rows), rank=rank)


def sdxl(changed=1680):
    unet = [a_row("UNet", tensors=1680, changed=changed)]
    unet += [a_row("UNet", block, changed=100) for block in BLOCKS]
    unet += [a_row("UNet", "", kind, changed=100) for kind in KINDS]
    return [*unet, a_row("VAE", tensors=248), a_row("text encoder", tensors=197), a_row("text encoder 2", tensors=390)]


def test_a_full_fine_tune_is_said_first_and_fits_a_small_screen():
    found = a_comparison(
        sdxl(),
        a_rank("full", full=63, undecided=1),
        metadata=tuple(MetadataDifference(key=f"modelspec.key_{n}", a=None, b="x") for n in range(20)),
        b=side(prediction_type="v_prediction", zero_terminal_snr=True),
    )
    lines = diff_files.lines(found)
    assert " ".join(line.strip() for line in lines[:2]) == (
        "B is a full fine-tune of A: 1,680 of 1,680 UNet tensors changed, by 0.120 %; "
        "identical: VAE, text encoder and text encoder 2."
    )
    assert "prediction type: epsilon in A, v_prediction with zero terminal SNR in B" in lines
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_a_merged_adapter_is_said_with_its_rank():
    found = a_comparison(sdxl(), a_rank("low-rank", low_rank=64, rank=32))
    lines = diff_files.lines(found)
    assert lines[0].startswith("B is A with a low-rank adapter merged in (rank about 32): 1,680 of 1,680")
    assert "0 full, 64 low-rank, 0 undecided" in " ".join(lines)
    assert not any("blind" in line for line in lines)


def test_a_mixed_change_says_what_is_which():
    attention = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_q.weight"
    conv = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    fields = {"rows": 64, "columns": 64, "left": 1.0, "effective_rank": 4.0, "stable_rank": 2.0}
    matrices = (
        MatrixRank(name=attention, verdict="low-rank", rank=4, **fields),
        MatrixRank(name=conv, verdict="full", rank=60, **fields),
    )
    found = a_comparison(sdxl(), a_rank("mixed", full=1, low_rank=1, rank=4, changed=2, matrices=matrices))
    lines = diff_files.lines(found)
    assert "low-rank: attn2 1; full: resnets 1" in lines
    assert "1 low-rank (rank up to about 4), 1 full" in " ".join(line.strip() for line in lines[:2])
    assert "--all" not in " ".join(lines)


def test_what_is_undecided_or_has_no_matrix_says_so():
    assert diff_files.lines(a_comparison(sdxl(), a_rank("undecided", undecided=64)))[0].startswith(
        "B differs from A; fine-tuned or merged with an adapter is undecided: "
    )
    lines = diff_files.lines(a_comparison(sdxl(), a_rank("none", changed=0)))
    assert lines[0].startswith("B differs from A, in no matrix that the rank test could judge: 1,680")
    assert not any(line.startswith("rank test") for line in lines)


def test_nothing_that_differs_has_no_table():
    same = [a_row("UNet"), a_row("VAE")]
    none = a_rank("none", changed=0)
    assert diff_files.lines(a_comparison(same, none, identical=True)) == [
        "A and B are identical: 200 tensors, bit for bit the same."
    ]
    only = Names(count=2, first=("v_pred", "ztsnr"))
    assert diff_files.lines(a_comparison(same, none, only_b=only)) == [
        "All 200 tensors that A and B share are identical, bit for bit.",
        "only in B: 2 tensors (v_pred, ...)",
    ]
    cast = a_comparison([a_row("UNet", recast=100)], none, recast=(Recast(a="F32", b="F16", tensors=100),))
    assert diff_files.lines(cast) == [
        "B is A in another number type: 100 tensors hold the same numbers, up to that",
        "  rounding.",
        "number type differs (F32 in A, F16 in B: 100 tensors); compared in float32",
    ]


def test_a_model_and_an_adapter_are_told_what_would_be_compared():
    found = a_comparison([], a_rank("none", changed=0))
    adapter = msgspec.structs.replace(found.b, architecture="an adapter", prediction_type="epsilon")
    said = " ".join(line.strip() for line in diff_files.lines(msgspec.structs.replace(found, b=adapter)))
    assert said == (
        "A and B have no tensor of one name and shape in common: A is SDXL base, B is an adapter. Whether it was "
        "merged, the model before and the model after it tell."
    )


def test_what_cannot_be_compared_or_is_not_finite_is_told_and_cannot_steer_the_terminal():
    found = a_comparison(
        [a_row("other", changed=1)],
        a_rank("none", changed=0),
        reshaped_count=3,
        reshaped=(Reshaped(name="a\x1b[2J", a=(1, 2), b=(2, 1)),),
        not_finite_count=1,
        not_finite=(NotFinite(name="out.weight", a=0, b=7),),
    )
    lines = diff_files.lines(found)
    assert "not comparable, the shape differs: 3 tensors (a\\x1b[2J: [1, 2] in A, [2, 1] in B)" in " ".join(lines)
    assert "NaN or infinite values in 1 tensors (out.weight: 0 in A, 7 in B)" in lines


def test_a_change_of_what_was_zero_has_no_percentage():
    lines = diff_files.lines(a_comparison([a_row("other", changed=1, relative=None)], a_rank("none", changed=0)))
    assert lines[1] == "  tensors changed."
    assert lines[-1].split() == ["other", "1", "of", "100", ">99.9", "%", "-", "0.00123"]

"""Notifications: what happens while somebody watches is told, once, and what cannot be told is said, once."""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import fake_run
import pytest

from aozora_tui import cli, notify, settings
from aozora_tui.app import AozoraApp
from aozora_tui.settings_fields import Notify
from engine.contract import events, places

ROOT = Path(__file__).parents[2]
WARNED = events.Warned(time=5.0, code="health-plateau", text="The loss has not fallen", remedy="Lower the rate.")
FINISHED = events.Finished(time=6.0, step=9, reason="finished", seconds=62.0)
FAILED = events.Failed(time=7.0, code="x", text="the disk is full", remedy="Make room.")


@pytest.fixture
def run():
    return fake_run.make(places.runs_folder(), "eel-20231113-101010")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("TMUX", raising=False)


class Rung(list):
    """Notices that write to this list, and what they complain of."""

    def __init__(self, run, environment=None, **wanted):
        super().__init__()
        self.complaints = []
        self.notices = notify.Notices(
            Notify(**wanted),
            write=self.append,
            complain=self.complaints.append,
            environment=environment or os.environ,
            again_seconds=0.01,
            look_seconds=0.0,
        )
        self.notices.watch(run)


def test_what_happens_is_told_once_and_history_is_not(run):
    fake_run.add(run, fake_run.started(run), WARNED, FINISHED)
    rung = Rung(run, terminal="message")
    rung.notices.look()
    assert rung == []
    fake_run.add(run, WARNED)
    rung.notices.look()
    rung.notices.look()
    rung.notices.watch(run)
    rung.notices.look()
    assert rung == ["\x1b]9;eel-20231113-101010 warns: The loss has not fallen. Lower the rate.\x07"]


def test_a_line_that_is_half_there_when_the_watching_begins_is_news_when_it_is_whole(run):
    line = events.encode(FAILED)
    run.events.write_bytes(events.encode(WARNED) + line[:30])
    rung = Rung(run, terminal="message")
    with run.events.open("ab") as file:
        file.write(line[30:])
    rung.notices.look()
    assert rung == ["\x1b]9;eel-20231113-101010 failed: the disk is full. Make room.\x07"]


def test_a_file_that_is_copied_anew_is_history(run):
    fake_run.add(run, WARNED)
    rung = Rung(run, terminal="bell")
    other = run.path / "other"
    other.write_bytes(events.encode(WARNED) * 3)
    other.replace(run.events)
    rung.notices.look()
    assert rung == []
    fake_run.add(run, FINISHED)
    rung.notices.look()
    assert rung == ["\a"]


def test_a_run_that_dies_without_a_word_has_failed(run):
    fake_run.trained(run, 3)
    with fake_run.engine_alive(run):
        rung = Rung(run, terminal="message")
        rung.notices.look()
    rung.notices.look()
    rung.notices.look()
    (said,) = rung
    assert "eel-20231113-101010 crashed: the engine ended without a word" in said


def test_only_what_is_wanted_is_told(run):
    rung = Rung(run, terminal="bell", on=("failed",))
    fake_run.add(run, WARNED, FINISHED)
    rung.notices.look()
    assert rung == []
    fake_run.add(run, FAILED)
    rung.notices.look()
    assert rung == ["\a"]


def test_tmux_is_asked_to_pass_it_on_and_nothing_of_a_text_steers_the_terminal(run):
    rung = Rung(run, {"TMUX": "/tmp/x"}, terminal="message")
    fake_run.add(run, events.Failed(time=7.0, code="x", text="a\x07\x1b[2Jb", remedy="z" * 999))
    rung.notices.look()
    (sequence,) = rung
    assert sequence.startswith("\x1bPtmux;\x1b\x1b]9;eel-20231113-101010 failed: a\\x07\\x1b[2Jb. zzz")
    assert sequence.endswith("zzz...\x07\x1b\\") and len(sequence) < 440
    assert (sequence.count("\x1b"), sequence.count("\x07")) == (4, 1)


# -- a command ---------------------------------------------------------------------------------------------------------


def test_a_command_is_told_by_its_environment_and_no_shell_reads_it(run, tmp_path):
    program = "import os, sys; open(sys.argv[1], 'a').write('|'.join([*sys.argv[2:], *(os.environ['AOZORA_' + n]" \
        " for n in ('RUN', 'EVENT', 'TEXT'))]))"  # fmt: skip
    out = tmp_path / "out"
    rung = Rung(run, command=(sys.executable, "-c", program, str(out), "$HOME; `id`"))
    fake_run.add(run, FINISHED)
    rung.notices.look()
    rung.notices.close(20)
    assert (
        out.read_text() == "$HOME; `id`|eel-20231113-101010|finished|eel-20231113-101010 finished at step 9 after 1:02"
    )
    assert (rung, rung.complaints) == ([], [])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("/no/such",), "/no/such could not be started: No such file or directory"),
        (("sh", "-c", "echo it is\necho broken >&2; exit 3"), "sh ended with code 3: broken"),
    ],
)
def test_a_command_that_fails_is_complained_of_once(run, argv, said):
    rung = Rung(run, command=argv)
    fake_run.add(run, WARNED, FINISHED)
    rung.notices.look()
    rung.notices.close(20)
    assert rung.complaints == [f"notify.command did not work: {said}"]


def test_a_command_that_hangs_is_killed():
    notice = notify.Notice("eel", "failed", "x", 1.0)
    said = notify.run_command(("sh", "-c", "exec sleep 60"), notice, os.environ, seconds=0.05)
    assert said == "sh had not ended after 0.05 s and was killed"


# -- a webhook ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hook(*codes):
    """A server that answers with these codes in turn, and what it was sent."""
    sent, answers = [], iter(codes)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(next(answers))
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", sent
        finally:
            server.shutdown()
            thread.join()


def test_a_webhook_gets_json(run):
    with hook(204) as (url, sent):
        rung = Rung(run, webhook=url)
        fake_run.add(run, FAILED)
        rung.notices.look()
        rung.notices.close(20)
    text = "eel-20231113-101010 failed: the disk is full. Make room."
    body = {"run": run.name, "event": "failed", "text": text, "content": text, "time": 7.0}
    assert sent == [("/hook", "application/json", body)]
    assert rung.complaints == []


@pytest.mark.parametrize(
    ("codes", "tries", "said"),
    [
        ((500, 200), 2, []),
        ((500, 503), 2, ["notify.webhook did not work: it answered 503 Service Unavailable"]),
        ((404,), 1, ["notify.webhook did not work: it answered 404 Not Found"]),
    ],
)
def test_a_webhook_that_stumbles_is_tried_once_more_and_complained_of_without_its_address(run, codes, tries, said):
    with hook(*codes) as (url, sent):
        rung = Rung(run, webhook=url)
        fake_run.add(run, FINISHED)
        rung.notices.look()
        rung.notices.close(20)
    assert len(sent) == tries
    assert rung.complaints == said


def test_a_webhook_that_is_not_there_is_complained_of_once(run):
    with hook() as (url, _):
        pass
    rung = Rung(run, webhook=url)
    fake_run.add(run, WARNED, FINISHED)
    rung.notices.look()
    rung.notices.close(20)
    (said,) = rung.complaints
    assert said.startswith("notify.webhook did not work: it cannot be reached: ") and "127.0.0.1" not in said


def test_a_webhook_that_hangs_holds_nobody_up():
    with contextlib.closing(__import__("socket").create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        said = notify.post(url, notify.Notice("eel", "failed", "x", 1.0), seconds=0.05, pause=0.0)
    assert said == "it cannot be reached: timed out"


# -- where it is set, and who sends it ---------------------------------------------------------------------------------


def write(text):
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_nothing_is_sent_unless_a_way_is_set():
    assert not settings.read({}).wants_notices
    write('[notify]\non = ["failed"]\nterminal = "off"\ncommand = []\n')
    assert not settings.read({}).wants_notices
    write('[notify]\nwebhook = "https://example.org/x"\n')
    found = settings.read({})
    assert found.wants_notices and found.notify.webhook == "https://example.org/x"
    assert found.notify.on == ("finished", "failed", "warning")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('on = ["fail"]', 'settings.toml: notify.on[0]: "fail" is not one of'),
        ('command = "notify-send"', "settings.toml: notify.command: "),
        ('webhook = "example.org"', "Write an address that begins with https:// or http://."),
        ('terminal = "beep"', 'settings.toml: notify.terminal: "beep" is not one of "off", "bell", "message"'),
    ],
)
def test_what_is_set_wrong_is_a_sentence(text, said):
    write(f"[notify]\n{text}\n")
    found = settings.read({})
    assert said in str(found.problems[0]) and not found.wants_notices


def test_reports_do_not_show_the_secret_of_a_webhook(capsys):
    write('[notify]\nwebhook = "https://me:word@example.org/secret"\ncommand = ["tell", "me"]\n')
    assert cli.main(["settings"]) == 0
    out = capsys.readouterr().out
    assert "https://example.org/..." in out and "secret" not in out and "word" not in out and "tell me" in out


async def test_the_app_tells_whatever_screen_is_on_top(run):
    write('[notify]\nterminal = "message"\n')
    fake_run.trained(run, 3)
    with fake_run.engine_alive(run):
        app = AozoraApp(run, ticking=False, settings=settings.read(os.environ), read_gpu=lambda pid: ())
        async with app.run_test(size=(80, 24)) as pilot:
            written = []
            app._driver.write = written.append
            await pilot.press("l")
            fake_run.add(run, WARNED)
            app.tick()
            await pilot.pause()
            assert any("\x1b]9;eel-20231113-101010 warns" in text for text in written)


@pytest.mark.parametrize("way", ["--plain", "--inline", "--json"])
def test_those_who_follow_in_lines_are_told_but_programs_are_not(run, tmp_path, way):
    out = tmp_path / "out"
    write(f'[notify]\ncommand = ["sh", "-c", "echo $AOZORA_EVENT >>{out}"]\n')
    fake_run.add(run, fake_run.started(run), WARNED)
    with fake_run.engine_alive(run):
        follower = subprocess.Popen(
            [sys.executable, "-m", "aozora_tui", "watch", way],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert follower.stdout is not None
        follower.stdout.readline()
        follower.stdout.readline()
        fake_run.add(run, events.Finished(time=fake_run.START + 9, step=9, reason="finished", seconds=62.0))
    told = follower.communicate(timeout=30)[0]
    assert b"finished" in told and follower.returncode == 0
    assert (out.read_text() if out.exists() else "") == ("" if way == "--json" else "finished\n")


def test_plain_lines_tell_of_the_health_of_the_run(run):
    fake_run.add(run, fake_run.started(run), WARNED, FINISHED)
    done = subprocess.run(
        [sys.executable, "-m", "aozora_tui", "watch", "--plain"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert "warning: The loss has not fallen. Lower the rate." in done.stdout.splitlines()

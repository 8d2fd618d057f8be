import json
from pathlib import Path

import pytest

from aozora_tui import cli, doctor
from aozora_tui.doctor import card, machine, terminal
from aozora_tui.doctor.card import TorchBuild
from engine.contract import tokenizer_files

CUDA_13 = TorchBuild(version="2.13.0", cuda="13.0")
CUDA_12 = TorchBuild(version="2.13.0+cu128", cuda="12.8")
CPU = TorchBuild(version="2.13.0+cpu", cuda=None)


@pytest.mark.parametrize(
    ("build", "driver", "level"),
    [
        (CUDA_13, "580.65.06", "ok"),
        (CUDA_13, "595.10", "ok"),
        (CUDA_13, "575.57.08", "wrong"),
        (CUDA_12, "525.60.13", "ok"),
        (CUDA_12, "580.65.06", "ok"),
        (CUDA_12, "515.105", "wrong"),
        (CUDA_13, None, "ok"),
        (CPU, "580.65.06", "wrong"),
        (None, "580.65.06", "wrong"),
        (TorchBuild(version="2.13.0", cuda=None, other="rocm 7.0"), None, "note"),
    ],
)
def test_torch_must_fit_the_driver(build, driver, level):
    assert card.torch(build, driver, has_card=driver is not None).level == level


def test_an_old_driver_is_told_which_torch_it_can_run():
    finding = card.torch(CUDA_13, "575.57.08", has_card=True)
    assert "needs driver 580 or newer; 575.57.08 is running" in finding.text
    assert "install a torch build for CUDA 12" in finding.remedy
    assert "a torch build for CUDA 11" in card.torch(CUDA_12, "515.105", has_card=True).remedy


def test_a_processor_build_without_a_card_is_fine():
    assert card.torch(CPU, None, has_card=False).level == "ok"


def test_torch_s_version_file_is_read_without_importing_it():
    text = "__version__ = '2.13.0+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
    assert card.read_build(text) == TorchBuild(version="2.13.0+cu130", cuda="13.0")
    rocm = "__version__ = '2.13.0'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.0.1'\n"
    assert card.read_build(rocm) == TorchBuild(version="2.13.0", cuda=None, other="hip 7.0.1")
    assert card.read_build("") is None


def test_the_installed_torch_is_what_torch_says_of_itself():
    import torch

    build = card.torch_build()
    assert build is not None
    assert (build.version, build.cuda) == (torch.__version__, torch.version.cuda)


def test_no_card_is_a_note_with_the_reason():
    (finding,) = card.cards([], None, "No driver was found.")
    assert (finding.level, finding.remedy) == ("note", "No driver was found.")
    found = list(card.cards(["A card, 12.0 GiB"], "580.1", None))
    assert [(finding.topic, finding.level) for finding in found] == [("card 0", "ok"), ("driver", "ok")]


def test_disks_that_are_full_or_read_only_are_wrong():
    def look(free, writable=True):
        return machine.folder("runs folder", Path("/r"), free=free, writable=writable, variable="AOZORA_RUNS")

    assert [look(free).level for free in (10**8, 10**10, 10**11)] == ["wrong", "note", "ok"]
    assert look(10**11, writable=False).level == "wrong"
    assert "AOZORA_RUNS" in look(10**8).remedy


def test_a_host_that_kills_sessions_is_wrong(tmp_path):
    (tmp_path / "logind.conf").write_text("[Login]\n#KillUserProcesses=yes\n")
    assert list(machine.logind(tmp_path)) == []
    (tmp_path / "logind.conf.d").mkdir()
    (tmp_path / "logind.conf.d" / "a.conf").write_text("KillUserProcesses=yes\n")
    (finding,) = machine.logind(tmp_path)
    assert finding.level == "wrong"
    (tmp_path / "logind.conf.d" / "b.conf").write_text("KillUserProcesses=no\n")
    assert list(machine.logind(tmp_path)) == []


def test_the_tokenizer_is_looked_for_where_the_hub_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tokenizer_files, "_PACKAGES", ())
    finding = machine.tokenizer()
    assert (finding.level, finding.text) == ("note", "no CLIP tokenizer on this machine")
    assert "model.tokenizer" in finding.remedy
    snapshot = tmp_path / "home" / "hub" / "models--openai--clip-vit-large-patch14" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "vocab.json").write_text("{}")
    assert machine.tokenizer().level == "note"  # half a tokenizer is none
    (snapshot / "merges.txt").write_text("")
    finding = machine.tokenizer()
    assert (finding.level, finding.text) == ("ok", str(snapshot))


def levels(environment, encoding="UTF-8", size=(120, 40)):
    return {finding.topic: finding.level for finding in terminal.terminal(environment, encoding, size)}


def test_a_good_terminal_has_nothing_to_note():
    found = levels({"TERM": "tmux-256color", "COLORTERM": "truecolor", "TMUX": "x", "SSH_CONNECTION": "x"})
    assert set(found.values()) == {"ok"}


def test_a_poor_terminal_is_told_what_to_change():
    found = levels({"TERM": "dumb", "SSH_CONNECTION": "x"}, "ISO-8859-1", (70, 20))
    assert found == {"locale": "note", "terminal": "note", "colours": "note", "size": "note", "connection": "note"}


def test_without_a_terminal_only_the_locale_counts():
    assert levels({}, size=None) == {"locale": "ok", "terminal": "ok"}


def test_the_report_is_lines_or_one_document(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path))
    findings = doctor.examine()
    wrong = any(finding.level == "wrong" for finding in findings)
    assert cli.main(["doctor"]) == wrong
    assert capsys.readouterr().out.splitlines()[-1] == doctor.lines(findings)[-1]
    assert cli.main(["doctor", "--json"]) == wrong
    document = json.loads(capsys.readouterr().out)
    assert [entry["topic"] for entry in document] == [finding.topic for finding in findings]


def test_a_wrong_finding_shows_its_remedy_below():
    findings = [
        doctor.Finding(topic="torch", level="wrong", text="is missing", remedy="Install it."),
        doctor.Finding(topic="locale", level="ok", text="UTF-8"),
    ]
    assert doctor.lines(findings) == [
        "wrong  torch   is missing",
        "               -> Install it.",
        "ok     locale  UTF-8",
        "1 of 2 wrong",
    ]

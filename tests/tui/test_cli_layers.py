"""What a selection of layers trains, for a person and for a script."""

import json

import fake_checkpoint
import pytest

from aozora_tui import cli, layers_report
from engine.contract import places

UNET = 2_567_463_684


@pytest.fixture
def base(tmp_path):
    return fake_checkpoint.write(tmp_path / "base.safetensors")


def told(capsys, *words, code=0):
    assert cli.main(["layers", *map(str, words)]) == code
    return capsys.readouterr()


def document(capsys, *words, code=0):
    return json.loads(told(capsys, *words, "--json", code=code).out)


def trained(*patterns):
    return [word for pattern in patterns for word in ("--train", pattern)]


def write_profile(base, extra=""):
    path = places.profiles_folder() / "mine.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[model]\nbase = "{base}"\n[[data.folders]]\npath = "/pictures"\n{extra}')
    return path


def test_everything_is_trained_where_nothing_else_is_said(base, capsys):
    lines = told(capsys, base).out.splitlines()
    assert lines[-2:] == ["trains 2.57 B of 2.57 B parameters (100.0 %), 1,680 of 1,680 tensors", "patterns: *"]
    assert lines[1].split() == ["■", "UNet", "2.57", "B", "2.57", "B", "100.0", "%"]


def test_the_tree_shows_what_is_trained_wholly_in_part_and_not_at_all(base, capsys):
    shown = told(
        capsys, base, "--train", "mid_block.*", "--train", "up_blocks.1.attentions.0.*", "--depth", "2"
    ).out.splitlines()
    marked = {line[: line.index("  ", 6)].strip() for line in shown[1:-2]}
    assert {"◧ UNet", "■ Middle block", "◧ Up block 1", "□ Down block 0"} <= marked
    assert {"■ Attention 0", "□ Attention 1", "□ Upsampler 0"} <= marked
    widths = {len(line) for line in shown[1:-2] if line.endswith("%")}
    assert len(widths) == 1  # the percentages stand below each other


@pytest.mark.parametrize(("depth", "parts"), [(0, 1), (1, 13), (2, 49)])
def test_depth_says_how_far_down_it_goes(base, capsys, depth, parts):
    found = document(capsys, base, "--train", "attn2", "--depth", depth)
    assert max(part["depth"] for part in found["parts"]) == depth
    assert len(found["parts"]) == parts
    assert found["parts"][0]["parameters"] == found["parameters"] == UNET
    first = [part for part in found["parts"] if part["depth"] == 1]
    assert not first or sum(part["trained"] for part in first) == found["trained"]


def test_the_shortest_patterns_select_the_same(base, capsys):
    blocks = ("down_blocks.2.resnets.*", "down_blocks.2.attentions.*")
    found = document(capsys, base, *trained(*blocks))
    assert found["shortest"] == ["down_blocks.2.*"]
    again = document(capsys, base, *trained(*found["shortest"]))
    assert again["trained"] == found["trained"]


def test_patterns_that_cannot_be_said_shorter_stay_as_they_were_given(base, capsys):
    lines = told(capsys, base, "--train", "attn2", "--freeze", "*.bias").out.splitlines()
    assert lines[-1] == "patterns: attn2  but not  *.bias"


def test_patterns_that_match_nothing_are_named_and_exit_2(base, capsys):
    done = told(capsys, base, *trained("attn2", "attn"), "--freeze", "nowhere", code=2)
    assert "attn matches no layer. " in done.err and "nowhere matches no layer. " in done.err
    assert "attn2 matches" not in done.err and "trains " in done.out
    found = document(capsys, base, "--train", "attn", code=2)
    assert list(found["unmatched"]) == ["attn"] and found["trained"] == 0


def test_depths_may_be_meant_by_number(base, capsys):
    found = document(capsys, base, "--train", "depth:2", "--depth", "1")
    whole = {part["path"] for part in found["parts"] if part["trained"] == part["parameters"]}
    assert whole == {"down_blocks.2", "mid_block", "up_blocks.0"}


def test_a_profile_stands_for_its_base_and_its_selection(base, capsys):
    path = write_profile(base, '[layers]\ntrain = ["attn2"]\nfreeze = ["mid_block"]\n')
    by_name, by_path = document(capsys, "mine"), document(capsys, path)
    assert by_name == by_path
    assert (by_name["checkpoint"], by_name["train"], by_name["freeze"]) == (str(base), ["attn2"], ["mid_block"])
    assert document(capsys, "mine", "--train", "attn1")["freeze"] == []
    assert document(capsys, "mine", "--freeze", "*.bias")["train"] == ["attn2"]


def test_a_wrong_profile_exits_2_and_a_base_that_is_none_exits_1(base, capsys, tmp_path):
    write_profile(base, "[layers]\ntrain = []\n")
    assert "the list is empty" in told(capsys, "mine", code=2).err
    assert "there is no profile called other" in told(capsys, "other", code=2).err
    write_profile(tmp_path / "gone.safetensors")
    assert "does not exist" in told(capsys, "mine", code=1).err
    assert "does not exist" in told(capsys, tmp_path / "gone.safetensors", code=1).err
    (tmp_path / "text.safetensors").write_text("no checkpoint at all")
    assert "is not a safetensors file" in told(capsys, tmp_path / "text.safetensors", code=1).err
    assert "is not a number of levels" in told(capsys, base, "--depth", "-1", code=2).err


def test_ascii_marks_need_no_unicode(base, capsys, monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    shown = told(capsys, base, "--train", "mid_block.*", "--depth", "1").out
    assert shown.isascii()
    assert "[-] UNet" in shown and "[x] Middle block" in shown and "[ ] Down block 0" in shown


@pytest.mark.parametrize(
    ("part", "whole", "said"), [(0, 9, "0.0 %"), (1, 9999, "< 0.1 %"), (9999, 10000, "99.9 %"), (9, 9, "100.0 %")]
)
def test_nearly_all_and_nearly_nothing_are_not_rounded_away(part, whole, said):
    assert layers_report._percent(part, whole) == said


def test_options_may_stand_before_the_file_as_the_usage_has_them(base, capsys):
    assert document(capsys, "--train", "attn2", base)["train"] == ["attn2"]
    assert "depth:0-1" in told(capsys, "--help").out


def test_a_selection_of_nothing_exits_2(base, capsys):
    done = told(capsys, base, "--train", "attn2", "--freeze", "attn2", code=2)
    assert done.err == "nothing is left to train: select at least one layer.\n"


ENCODERS = '[text_encoders]\ntrain = "both"\nrate = 0.5\n'


def test_text_encoders_that_learn_have_rows_and_count(base, capsys):
    write_profile(base, ENCODERS)
    rows = {part["path"]: part for part in document(capsys, "mine", "--depth", "0")["parts"]}
    assert list(rows) == ["", "text_encoder", "text_encoder_2"]
    # CLIP-L and OpenCLIP bigG with its projection, as transformers counts them.
    first, second = rows["text_encoder"], rows["text_encoder_2"]
    assert (first["parameters"], second["parameters"]) == (123_060_480, 694_659_840)
    assert first["trained"] < first["parameters"] - 49408 * 768  # its last layer is read by nobody
    assert second["trained"] == second["parameters"] - 49408 * 1280
    assert (first["rates"], second["rates"], rows[""]["rates"]) == ([0.5], [0.1], [1.0])
    checked = json.loads(check(capsys, "mine", "--json").out)["forecast"]
    found = document(capsys, "mine")
    assert (found["trained"], found["parameters"]) == (checked["trained"], checked["total"])


def test_rates_that_differ_are_a_column_and_a_line_of_the_check(base, capsys):
    write_profile(base, "[optimizer.rates]\nmid_block = 0.5\nattn2 = 0.1\n")
    lines = told(capsys, "mine", "--depth", "1").out.splitlines()
    assert lines[0].split() == ["total", "trained", "rate"]
    ends = {line.strip(" ■◧□").split("  ")[0]: line.split("%")[-1].strip() for line in lines[1:-2]}
    assert ends["UNet"] == "mixed" and ends["Input convolution"] == "x 1" and ends["Middle block"] == "mixed"
    assert len({len(line) for line in lines[1:-2]}) == 1
    (said,) = [line for line in check(capsys, "mine").out.splitlines() if line.startswith("learning rates ")]
    assert said.startswith("learning rates x 1 for 1.") and "x 0.5 for " in said and "x 0.05 for " in said
    write_profile(base)
    assert "rate" not in told(capsys, "mine").out and "learning rates" not in check(capsys, "mine").out


def check(capsys, *words):
    cli.main(["check", *words])  # whether this machine has room for the run is not the question
    return capsys.readouterr()

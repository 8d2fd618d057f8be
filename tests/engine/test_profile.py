"""Every mistake at once, each with its path and a remedy; nothing that the engine cannot do gets through."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from engine.contract import places
from engine.contract.check import check_file
from engine.contract.decode import as_toml, unwrap
from engine.contract.fields import form_fields, sections
from engine.contract.noise import TIMESTEPS
from engine.contract.problems import ProfileError
from engine.contract.profile import digest, dump, load, parse, resolved, salvage
from engine.contract.profile_values import differences, values_of
from engine.contract.sections import Profile
from engine.contract.sections.common import OVER_TIMESTEPS

MINIMAL = '[model]\nbase = "base.safetensors"\n[[data.folders]]\npath = "pictures"\n'


def problems_of(text: str) -> dict[str, tuple[str, str]]:
    return {problem.path: (problem.text, problem.remedy) for problem in parse(text, "profile.toml")[1]}


def test_a_minimal_profile_is_enough_and_every_default_is_valid():
    profile, problems = parse(MINIMAL, "profile.toml")
    assert profile is not None and problems == []
    again, problems = parse(dump(profile), "written")
    assert again == profile and problems == []


def test_all_mistakes_are_named_at_once_with_path_and_remedy():
    found = problems_of(
        """
        [model]
        base = "base.safetensors"
        precison = "bf16"
        [data]
        resolution = "1024"
        folders = [{ path = "pictures", repeats = 0 }]
        [objective]
        prediction_type = "v_pred"
        min_snr_gamma = nan
        [train]
        steps = 0
        accumulate = 3.5
        [sav]
        """
    )
    assert found == {
        "sav": ("there is no such setting", "Did you mean `save`?"),
        "model.precison": ("there is no such setting", "Did you mean `precision`?"),
        "data.resolution": ('"1024" is not a whole number from 64 to 4,096', "Remove the quotes."),
        "data.folders[0].repeats": ("0 is not a whole number from 1 to 1,000", "The least allowed is 1."),
        "objective.prediction_type": (
            '"v_pred" is not one of "v_prediction", "epsilon", "flow"',
            'Did you mean "v_prediction"?',
        ),
        "objective.min_snr_gamma": ("nan is not a number from 0.01 to 100", "The default is 5.0."),
        "train.steps": ("0 is not a whole number from 1 to 10,000,000", "The least allowed is 1."),
        "train.accumulate": ("3.5 is not a whole number from 1 to 4,096", "The default is 16."),
    }


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ("[data]\nfolders = []", "data.folders"),
        ("[data]\nfolders = 3", "data.folders"),
        ("[data]\nfolders = [3]", "data.folders[0]"),
        ("model = 1", "model"),
        ("[model]\nbase = ''", "model.base"),
        ("[layers]\ntrain = [1]", "layers.train[0]"),
        ("[preview]\nwidth = 1000", "preview.width"),
        ("[data]\nbackground = 'white'", "data.background"),
        ("[memory]\ndevice = 'gpu'", "memory.device"),
        ("[train]\nsteps = true", "train.steps"),
        ("[optimizer]\nlearning_rate = inf", "optimizer.learning_rate"),
        ("[data", "profile.toml"),
        ("a = " + "[" * 3000, "profile.toml"),
        ("[model]\nbase = 'a\\u0000b'".replace("'", '"'), "model.base"),
    ],
)
def test_wrong_shapes_and_values_are_problems_not_tracebacks(lines: str, path: str):
    found = problems_of(lines)
    assert path in found and all(found[path])


def test_missing_sections_and_fields_are_named():
    assert {"model", "data"} <= problems_of("").keys()
    assert "model.base" in problems_of("[model]\n[[data.folders]]\npath = 'x'")


@pytest.mark.parametrize(
    ("objective", "path"),
    [
        ("prediction_type = 'epsilon'\nzero_terminal_snr = true", "objective.zero_terminal_snr"),
        ("prediction_type = 'flow'\nzero_terminal_snr = true", "objective.zero_terminal_snr"),
    ],
)
def test_impossible_pairs_are_refused_with_the_reason(objective: str, path: str):
    assert path in problems_of(f"{MINIMAL}\n[objective]\n{objective}")


def test_load_raises_every_problem_and_names_the_file(tmp_path: Path):
    file = tmp_path / "bad.toml"
    file.write_text(MINIMAL + "[train]\nsteps = 0\nbatch = 1\n")
    with pytest.raises(ProfileError) as caught:
        load(file)
    assert {problem.path for problem in caught.value.problems} == {"train.steps", "train.batch"}
    assert "bad.toml" in str(caught.value) and "Did you mean `batch_size`?" in str(caught.value)
    with pytest.raises(ProfileError, match="does not exist"):
        load(tmp_path / "none.toml")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match="is not a text in UTF-8"):
        load(file)


def test_resolved_paths_are_absolute_and_placeholders_are_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path / "data"))
    profile, _ = parse(MINIMAL.replace('"pictures"', '"{data}/pictures"'), "p")
    assert profile is not None
    whole = resolved(profile, tmp_path / "here")
    assert whole.model.base == str(tmp_path / "here" / "base.safetensors")
    assert whole.data.folders[0].path == str(tmp_path / "data" / "pictures")
    assert Path(whole.data.cache).is_absolute() and whole.model.tokenizer == ""
    assert resolved(whole, tmp_path / "elsewhere") == whole


def test_digest_changes_with_any_setting():
    profile, _ = parse(MINIMAL, "p")
    assert profile is not None
    other = msgspec.structs.replace(profile, train=msgspec.structs.replace(profile.train, seed=43))
    assert digest(profile) == digest(parse(MINIMAL, "q")[0]) != digest(other)


def test_every_field_has_a_label_help_and_a_form_row():
    for field in form_fields().values():
        assert field.label and len(field.help) > 15 and field.expected, field.path
        if not field.required:
            raw = list(field.default) if isinstance(field.default, tuple) else field.default
            assert field.problems(raw) == [], field.path
    assert [section.name for section in sections()] == list(Profile.__struct_fields__)


@pytest.mark.parametrize("file", sorted(places.shipped_profiles_folder().glob("*.toml")), ids=lambda file: file.name)
def test_every_shipped_profile_is_valid(file: Path):
    profile, problems = parse(file.read_text(), file.name)
    assert profile is not None and problems == []
    assert tomllib.loads(file.read_text())["train"]["steps"] == profile.train.steps


def test_a_wrong_profile_is_checked_against_the_machine_in_the_same_breath(tmp_path: Path):
    """Two typing mistakes, an impossible pair, a base and a folder that are not there: five problems, one command."""
    file = tmp_path / "bad.toml"
    folder = '[[data.folders]]\npath = "nowhere"\nrepeats = 0\n'
    objective = '[objective]\nprediction_type = "epsilon"\n'
    file.write_text(f'[model]\nbase = "none.safetensors"\n{folder}[train]\nstep = 3\n{objective}')
    checked = check_file(file)
    assert not checked.ok
    named = ("data.folders[0].repeats", "train.step", "model.base", "data.folders[0].path")
    assert {*named, "objective.zero_terminal_snr"} <= {problem.path for problem in checked.problems}


def test_notepads_mark_and_unknown_homes_are_no_reason_to_fall_over(tmp_path: Path):
    assert parse("\ufeff" + MINIMAL, "p")[1] == []
    file = tmp_path / "p.toml"
    file.write_text(MINIMAL.replace("base.safetensors", "~nosuchuser/x.safetensors"))
    assert "model.base" in {problem.path for problem in check_file(file).problems}


def test_differences_name_each_setting_once():
    old = parse(MINIMAL, "p")[0]
    new = parse(MINIMAL + "[train]\nseed = 7\n[save]\nkeep = 3\n", "p")[0]
    assert old and new
    found = differences(values_of(old), values_of(new))
    told = [(each.field.path, each.before, each.after) for each in found]
    assert told == [("train.seed", 42, 7), ("save.keep", 2, 3)]


@pytest.mark.parametrize(
    "text",
    [
        '"" = 1',
        '"." = 1',
        '"[]" = 1',
        '[data]\nfolders = [{ path = "x" }]\n"folders.x.y" = 1',
        '[data]\nfolders = [{ path = "x" }]\n"folders[9].x" = 1',
        f"[train]\nsteps = {'9' * 5000}",
        MINIMAL.replace("base.safetensors", "n" * 300),
        MINIMAL.replace("pictures", "n" * 300),
        "model = 3\ndata = []",
        "[data]\nfolders = [[1]]",
        "[model]\nbase = 1979-05-27",
    ],
)
def test_odd_shapes_are_problems_whatever_is_odd_about_them(tmp_path: Path, text: str):
    file = tmp_path / "odd.toml"
    file.write_text(text)
    checked = check_file(file)
    assert not checked.ok and all(problem.text for problem in checked.problems)


def test_notepads_mark_hides_no_mistake(tmp_path: Path):
    text = MINIMAL + "[train]\nstep = 1\n"
    (tmp_path / "plain.toml").write_text(text)
    (tmp_path / "marked.toml").write_text("\ufeff" + text)
    plain, marked = check_file(tmp_path / "plain.toml"), check_file(tmp_path / "marked.toml")
    assert len(plain.problems) == len(marked.problems) > 2


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("model.safetensors", 10, "is no profile"),
        ("big.toml", 2 << 20, "is no profile"),
        ("gone.toml", None, "does not"),
    ],
)
def test_what_cannot_be_a_profile_is_refused_unread(tmp_path: Path, name: str, size: int | None, said: str):
    path = tmp_path / name
    if size is not None:
        with path.open("wb") as file:
            file.truncate(size)
    with pytest.raises(ProfileError) as caught:
        load(path)
    assert said in caught.value.problems[0].text
    assert check_file(path).problems == caught.value.problems


def test_a_profile_in_another_encoding_is_said(tmp_path: Path):
    path = tmp_path / "latin.toml"
    path.write_bytes("[model] # für".encode("latin-1"))
    (problem,) = check_file(path).problems
    assert problem.text == "is not a text in UTF-8 (invalid start byte at byte 11)"


@pytest.mark.parametrize(
    ("point", "path", "text"),
    [
        ("[500]", "[1]", "two numbers are expected: where, and how much"),
        ("[500, 1, 2]", "[1]", "two numbers are expected: where, and how much"),
        ('["500,", 1]', "[1]", "two numbers are expected: where, and how much"),
        ("[true, 1]", "[1]", "two numbers are expected: where, and how much"),
        ('"half"', "[1]", "two numbers are expected: where, and how much"),
        ("[-5, 1]", "[1].at", "timesteps go from 0 to 999"),
        ("[nan, 1]", "[1].at", "timesteps go from 0 to 999"),
        ("[5e9, 1]", "[1].at", "timesteps go from 0 to 999"),
        ("[1000, 1]", "[1].at", "timesteps go from 0 to 999"),
        ("[5, -1]", "[1].value", "-1 is not a number from 0 to 1,000,000,000"),
    ],
)
@pytest.mark.parametrize("curve", ["weight_curve", "timestep_curve"])
def test_a_wrong_point_is_one_problem_that_speaks_of_timesteps(point: str, path: str, text: str, curve: str):
    found = problems_of(f"{MINIMAL}[objective]\ntimesteps = 'curve'\n{curve} = [[0, 1], {point}]\n")
    assert list(found) == [f"objective.{curve}{path}"]
    said, remedy = found[f"objective.{curve}{path}"]
    assert said.startswith(text) and remedy and said not in remedy


@pytest.mark.parametrize(
    "text",
    [
        "[objective]\nweight_curve = [[0, 0], [9], [99, 'x']]",
        "[objective]\ntimesteps = 'curve'\ntimestep_curve = [['half'], [9, 1]]",
        "[preview]\nprompts = ['a cat', 5]",
        "[layers]\ntrain = [1]",
    ],
)
def test_a_wrong_entry_of_a_list_hides_no_other_problem_and_makes_none(tmp_path: Path, text: str):
    file = tmp_path / "bad.toml"
    file.write_text(f"{MINIMAL}{text}\n[train]\naccumulate = 2\n[save]\nevery = 2000\n")
    own = {problem.path for problem in parse(file.read_text(), "p")[1]}
    found = {problem.path for problem in check_file(file).problems}
    assert found - own - {"model.tokenizer"} == {"model.base", "data.folders[0].path", "save.every"}


def test_a_folder_that_is_none_hides_no_other_problem(tmp_path: Path):
    file = tmp_path / "bad.toml"
    file.write_text('[model]\nbase = "x"\n[data]\nfolders = [{ path = "" }, { path = "nowhere" }]\n')
    problems = {problem.path: problem.text for problem in check_file(file).problems}
    assert problems["data.folders[0].path"] == "must not be empty"
    assert problems["data.folders[1].path"].endswith("nowhere does not exist") and "model.base" in problems


def test_a_wrong_curve_that_is_not_used_leaves_the_choice_of_timesteps_alone():
    text = f"{MINIMAL}[objective]\ntimesteps = 'logit_normal'\ntimestep_curve = [[1]]\n"
    rest = salvage(text, parse(text, "p")[1])
    assert rest is not None and rest.objective.timesteps == "logit_normal" and rest.objective.timestep_curve == ()


@pytest.mark.parametrize(
    ("point", "path", "text"),
    [
        ("[1]", "[1]", "two numbers are expected"),
        ("[-0.5, 1]", "[1].at", "shares of the run go from 0 to 1"),
        ("[50, 1]", "[1].at", "shares of the run go from 0 to 1"),
        ("[0.5, -1]", "[1].value", "-1 is not a number from 0"),
    ],
)
def test_a_wrong_point_of_the_schedule_speaks_of_the_run(point: str, path: str, text: str):
    start = f"{MINIMAL}[schedule]\nshape = 'curve'\ncurve = [[0, 1], {point}]\n"
    found = problems_of(start)
    assert list(found) == [f"schedule.curve{path}"] and found[f"schedule.curve{path}"][0].startswith(text)
    rest = salvage(start, parse(start, "p")[1])
    assert rest is not None and rest.schedule.shape == "cosine" and rest.schedule.curve == ()


def test_an_axis_is_named_as_long_as_it_is():
    assert OVER_TIMESTEPS.last == TIMESTEPS - 1 and f"0 to {TIMESTEPS - 1}" in OVER_TIMESTEPS.words


@pytest.mark.parametrize(
    ("curve", "remedy"),
    [
        ("[schedule]\ncurve = {}", "Write it as [[0, 1.0], [0.5, 0.4]]."),
        ("[objective]\nweight_curve = {}", "Write it as [[0, 1.0], [500, 0.4]]."),
    ],
)
@pytest.mark.parametrize("written", ["[0, 0.1, 1]", "[0.5, 0.4]", "['0.5 0.4']", "[{ at = 0 }]"])
def test_a_curve_without_any_pair_is_one_problem(curve: str, remedy: str, written: str):
    """The outer brackets forgotten, say."""
    found = problems_of(f"{MINIMAL}{curve.format(written)}\n")
    assert [*found.values()] == [("pairs of two numbers are expected: where, and how much", remedy)]
    assert next(iter(found)).endswith("curve")


def test_a_wrong_point_is_mended_in_the_numbers_of_its_axis():
    found = problems_of(f"{MINIMAL}[schedule]\ncurve = [[0, 1], [1]]\n[objective]\nweight_curve = [[1], [2, 1]]\n")
    assert {path: remedy for path, (_, remedy) in found.items()} == {
        "schedule.curve[1]": "Write it as [0.5, 0.4].",
        "objective.weight_curve[0]": "Write it as [500, 0.4].",
    }


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("ema.decay = 99.9", "The most allowed is 0.9999."),
        ("ema.decay = 1.0", "The most allowed is 0.9999."),
        ("ema.decay = nan", "Write 0.9999 or less, as 0.999; 0 is none."),
        ("ema.decay = '99.9%'", "Write 0.999."),
        ("optimizer.beta1 = 1", "Write a share below 1, as 0.9; 0 is none."),
        ("optimizer.learning_rate = 0", "Write a number above 0 and at most 1, as 1e-6."),
        ("text_encoders.train = 'CLIP-L'", 'Did you mean "first"?'),
        ("text_encoders.train = 'clip_l'", 'Did you mean "first"?'),
        ("text_encoders.train = 'te1'", 'Did you mean "first"?'),
        ("text_encoders.train = 'bigG'", 'Did you mean "second"?'),
        ("text_encoders.train = 'OpenCLIP'", 'Did you mean "second"?'),
        ("text_encoders.train = 'clip-g'", 'Did you mean "second"?'),
        ("text_encoders.train = 'te2'", 'Did you mean "second"?'),
        ("text_encoders.train = true", 'Did you mean "both"?'),
        ("text_encoders.train = false", 'Did you mean "none"?'),
        ("text_encoders.train = 3", 'The default is "none".'),
        ("text_encoders.train = ['first']", 'The default is "none".'),
        ("optimizer.kind = 'prodigy'", 'kind = "imported" and import_path = "prodigyopt.Prodigy"'),
        ("optimizer.kind = 'lion'", 'kind = "imported" and import_path = "prodigyopt.Prodigy"'),
        ("optimizer.kind = 'adamw8bit'", 'kind = "imported" and import_path = "prodigyopt.Prodigy"'),
        ("optimizer.kind = 'PagedAdamW'", 'kind = "imported" and import_path = "prodigyopt.Prodigy"'),
        ("optimizer.kind = 'AdamW'", 'Did you mean "adamw"?'),
        ("optimizer.kind = 'adam'", 'Did you mean "adamw"?'),
        ("optimizer.kind = 'AdaFactor'", 'Did you mean "adafactor"?'),
        ("optimizer.kind = 'adafaktor'", 'Did you mean "adafactor"?'),
        ("optimizer.import_path = 'Prodigy'", 'Write package and class, as "prodigyopt.Prodigy".'),
        ("schedule.shape = 'warmup-stable-decay'", 'Did you mean "wsd"?'),
        ("schedule.shape = 'cosine_with_restarts'", 'Did you mean "restarts"?'),
        ("schedule.shape = 'constant_with_warmup'", 'Did you mean "constant"?'),
        ("schedule.shape = 'Cosine'", 'Did you mean "cosine"?'),
        ("schedule.warmup = '10%'", "Write 0.1."),
        ("schedule.warmup = '12.5 %'", "Write 0.125."),
        ("schedule.warmup = '150%'", "The default is 0.1."),
        ("train.damping = '95%'", "Write 95.0."),
        ("layers.train = 'attn2'", 'Write it in square brackets, as ["attn1", "mid_block.*"].'),
    ],
)
def test_a_remedy_says_what_is_meant(setting: str, remedy: str):
    path, _, value = setting.partition(" = ")
    section, name = path.split(".")
    found = problems_of(f"{MINIMAL}[{section}]\n{name} = {value}\n")
    assert list(found) == [path] and found[path][1].endswith(remedy if remedy.endswith((".", "?")) else f"{remedy}.")


def test_aliases_and_examples_are_sound():
    """Every alias leads to a word and is written as it is looked up; every example is valid and goes through TOML."""
    for field in form_fields().values():
        extra = unwrap(field.annotation)[1].extra or {}
        for alias, word in extra.get("aliases", {}).items():
            assert word in field.choices and alias not in field.choices and alias.isalnum() and alias == alias.lower()
        if field.example is not None:
            assert field.problems(field.example) == []
            assert tomllib.loads(f"x = {as_toml(field.example)}") == {"x": field.example}
    shown = {path for path, field in form_fields().items() if field.example is not None}
    assert shown >= {"layers.train", "layers.freeze", "schedule.curve", "objective.timestep_curve"}
    assert shown >= {path for path, field in form_fields().items() if field.kind in ("table", "points")}


@pytest.mark.parametrize("section", ["train", "optimizer", "schedule", "layers", "text_encoders", "ema", "memory"])
def test_labels_and_help_are_short(section: str):
    for field in form_fields().values():
        if field.section == section:
            assert len(field.label) <= 20 and len(field.help) <= 205, field.path


def test_a_profile_that_a_run_kept_before_there_were_these_settings_still_means_the_same():
    """As an earlier version wrote it out: every setting that it knew."""
    kept = dump(parse(MINIMAL, "p")[0]).splitlines()
    new = ("kind", "master", "momentum", "beta1", "beta2", "epsilon", "moments", "import_path", "damping", "power")
    new += ("max_skipped", "warmup_steps", "cycles", "curve")
    old, section = [], ""
    for line in kept:
        section = line if line.startswith("[") else section
        name = line.split(" = ")[0]
        gone = section in ("[optimizer.rates]", "[optimizer.arguments]", "[text_encoders]", "[ema]")
        if not gone and name not in new and (section, name) != ("[schedule]", "decay"):
            old.append(line)
    assert {"[optimizer]", "learning_rate = 1e-06", "clip_threshold = 1.0", 'shape = "cosine"'} <= set(old)
    assert len(old) < len(kept) - 25
    assert parse("\n".join(old), "profile.toml") == parse(MINIMAL, "p")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_device_without_an_end_is_no_profile():
    with pytest.raises(ProfileError, match="is no profile"):
        load(Path("/dev/zero"))


def test_lines_may_end_as_on_windows(tmp_path: Path):
    (tmp_path / "p.toml").write_bytes(b"[model]\r\nbase = 'x.safetensors'\r\n[[data.folders]]\r\npath = 'y'\r\n")
    assert load(tmp_path / "p.toml").model.base == "x.safetensors"

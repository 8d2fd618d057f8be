"""Optimizers of other packages, before a run: what is refused, where, and with which numbers they are tried."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.__main__ import _wrong_profile, main
from engine.contract.base_checkpoint import read_base
from engine.contract.problems import Problem, ProfileError
from engine.contract.profile import decode_profile
from engine.optim.import_path import ImportedOptimizerError
from engine.optim.trial import check
from engine.run.base import open_base
from engine.run.verify import optimizer_problems
from tests.engine.test_imported import HERE, every_optimizer

ANOTHER = "Choose another class."
EVERYTHING = tuple((dims, factor) for dims in (1, 2, 4) for factor in (1.0, 0.1))


def problems_of(path, arguments, **settings):
    with pytest.raises(ImportedOptimizerError) as raised:
        check(path, arguments, **settings)
    problems = raised.value.problems
    for problem in problems:
        assert problem.text in str(raised.value) and "\n" not in problem.text and not problem.text.endswith(".")
        assert problem.remedy[-1] in ".?"
    return problems


@every_optimizer
def test_good_optimizers_pass(path, arguments):
    check(path, arguments, tensors=EVERYTHING)


@pytest.mark.parametrize(
    ("path", "arguments", "field", "text", "remedy"),
    [
        ("Prodigy", {}, "import_path", '"Prodigy" is not the import path of a class', "as in `torch.optim.NAdam`"),
        ("torch..SGD", {}, "import_path", "is not the import path", "as in"),
        ("nosuchpackage.sub.Prodigy", {}, "import_path", "nosuchpackage is not installed", "pip install nosuch"),
        ("torch.optimm.SGD", {}, "import_path", "there is no module torch.optimm", "as in"),
        ("torch.optim.Nadam", {}, "import_path", "torch.optim has no Nadam", "Did you mean `torch.optim.NAdam`?"),
        (f"{HERE}.a_function", {}, "import_path", "not a subclass of torch.optim.Optimizer", "AnyArguments, Demanding"),
        ("torch.optim.lr_scheduler.StepLR", {}, "import_path", "not a subclass", "as in"),
        (f"{HERE}.WithoutRate", {}, "import_path", "takes no learning rate `lr`", "Choose another"),
        ("torch.optim.NAdam", {"bettas": [1, 2]}, "arguments.bettas", "no argument `bettas`", "mean `betas`? Known"),
        ("torch.optim.NAdam", {"zzz": 1}, "arguments.zzz", "no argument `zzz`", "Known there: betas, eps"),
        ("torch.optim.NAdam", {"lr": 1}, "arguments.lr", "the learning rate", "Set optimizer.learning_rate"),
        (f"{HERE}.AnyArguments", {"lr": 1}, "arguments.lr", "the learning rate", "Set optimizer.learning_rate"),
        ("torch.optim.NAdam", {"params": []}, "arguments.params", "selected layers", "layers.train"),
        (f"{HERE}.Demanding", {}, "arguments.radius", "needs the argument `radius`", "Set it"),
        (f"{HERE}.ProdigyLike", {"betas": [2, 0.9]}, "arguments.betas",
         "arguments.betas = [2, 0.9] is refused: Invalid betas at index 0: 2", "Its default is [0.9, 0.99]."),
        ("torch.optim.NAdam", {"betas": 0.9}, "arguments.betas",
         "arguments.betas = 0.9 is refused: it is not the kind", "Its default is [0.9, 0.999]."),
        ("torch.optim.NAdam", {"betas": [0.9, 0.99, 1], "eps": 1e-6}, "arguments.betas",
         "[0.9, 0.99, 1] is refused: too many values", "[0.9, 0.999]"),
        ("torch.optim.NAdam", {"eps": 1e-6, "weight_decay": "x"}, "arguments.weight_decay",
         '= "x" is refused: it is', "Its default is 0."),
        ("torch.optim.SGD", {"foreach": True, "fused": True}, "arguments.foreach",
         "foreach = true is refused: `fused` and", "Leave it out."),
        (f"{HERE}.ProdigyLike", {"growth": "x"}, "arguments.growth", '= "x" is refused', "Its default is inf."),
        (f"{HERE}.AnyArguments", {"momentum": "x"}, "arguments.momentum", '= "x" is refused', "Leave it out."),
        (f"{HERE}.AnyArguments", {"zzz": 1}, "arguments.zzz", "unexpected keyword argument 'zzz'", "Leave it out."),
        (f"{HERE}.Demanding", {"radius": "x"}, "arguments.radius",
         '= "x" is refused', "Correct it, or choose another class."),
        (f"{HERE}.LookaheadLike", {"hidden": True}, "arguments.hidden", "= true is refused: ", "Its default is false."),
        ("torch.optim.LBFGS", {"max_iter": 9}, "import_path", "wants to compute the loss by itself", ANOTHER),
        (f"{HERE}.Sharpness", {}, "import_path", "wants to compute the loss by itself", ANOTHER),
        ("torch.optim.SparseAdam", {}, "import_path", "fails in its first step: SparseAdam does", ANOTHER),
        (f"{HERE}.Hidden", {}, "import_path", "keeps state that torch's state_dict does not hold", ANOTHER),
        (f"{HERE}.OddState", {}, "import_path", "cannot be saved and resumed", ANOTHER),
        (f"{HERE}.KeepsAnObject", {}, "import_path", "keeps a object (generator), which a checkpoint", ANOTHER),
        (f"{HERE}.SwapsWhenShown", {}, "import_path", "changes its state by its own train() and eval()", ANOTHER),
    ],
)  # fmt: skip
def test_each_mistake_is_told_where_it_is_and_what_to_do(path, arguments, field, text, remedy):
    (problem,) = problems_of(path, arguments)
    assert problem.path == f"optimizer.{field}"
    assert text in problem.text and remedy in problem.remedy


@pytest.mark.parametrize(
    ("path", "arguments", "fields"),
    [
        ("torch.optim.Nadam", {"lr": 1, "betas": 0.9}, ["import_path", "arguments.lr"]),
        ("torch.optim.NAdam", {"betas": 0.9, "zzz": 1, "eps": "x", "foreach": False},
         ["arguments.zzz", "arguments.betas", "arguments.eps"]),
        ("torch.optim.SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0, "weight_decay": -1},
         ["arguments.weight_decay"]),
        ("torch.optim.SGD", {"nesterov": True, "momentum": 0.9, "weight_decay": -1, "foreach": 7, "fused": 1},
         ["arguments.weight_decay", "arguments.fused"]),
        (f"{HERE}.Demanding", {"zzz": 1, "lr": 1}, ["arguments.lr", "arguments.zzz", "arguments.radius"]),
        ("torch.optim.NAdam", {"a b": 1}, ['arguments."a b"']),
    ],
)  # fmt: skip
def test_all_mistakes_are_told_at_once(path, arguments, fields):
    assert [problem.path for problem in problems_of(path, arguments)] == [f"optimizer.{field}" for field in fields]


@pytest.mark.parametrize(("path", "arguments"), [("LookaheadLike", {}), ("Noisy", {})])
def test_state_that_torch_holds_is_no_reason_to_refuse_nor_is_noise(path, arguments):
    check(f"{HERE}.{path}", arguments)


def test_every_kind_of_tensor_that_will_be_trained_is_tried_and_no_other():
    check("torch.optim.Muon", {"momentum": 0.9})
    (problem,) = problems_of("torch.optim.Muon", {"momentum": 0.9}, tensors=EVERYTHING)
    assert "cannot be used here: Muon only supports 2D" in problem.text and problem.remedy == ANOTHER
    check(f"{HERE}.OneRate", {}, tensors=[(1, 0.1), (4, 0.1), (4, 0.0)])
    (problem,) = problems_of(f"{HERE}.OneRate", {}, tensors=EVERYTHING)
    assert "fails in its first step: Setting different lr" in problem.text


def test_what_only_another_device_can_do_passes():
    check(f"{HERE}.ForOtherDevices", {})


# -- of a profile ------------------------------------------------------------------------------------------------------


def profile_of(base, optimizer, **sections):
    raw = {
        "model": {"base": str(base), "tokenizer": str(base.parent / "tokenizer")},
        "data": {"folders": [{"path": str(base.parent / "pictures")}], "cache": str(base.parent / "cache")},
        "optimizer": {"kind": "imported", "import_path": optimizer} | sections.pop("more", {}),
        "save": {"export_format": "checkpoint"},
    }
    profile, problems = decode_profile(raw | sections)
    assert profile is not None, problems
    return profile


@pytest.mark.parametrize(
    ("rates", "sections", "accepted"),
    [
        ({}, {}, True),
        ({"mid_block.*": 0.5}, {}, False),
        ({"*": 0.5}, {}, True),
        ({"*": 0.5, "mid_block.*": 2.0}, {}, False),  # 0.5 and 1: they multiply
        ({"mid_block.*": 0.5, "mid_block": 2.0}, {}, True),  # 1 everywhere
        ({"mid_block.*": 0.5}, {"layers": {"train": ["mid_block.*"]}}, True),
        ({"mid_block.*": 0.5}, {"layers": {"train": ["down_blocks.*"]}}, True),
        ({"mid_block.*": 0.0}, {}, True),
        ({}, {"text_encoders": {"train": "first"}}, False),  # text_encoders.rate is 0.1 by default
        ({}, {"text_encoders": {"train": "second"}}, False),
        ({}, {"text_encoders": {"train": "second", "rate_2": 1.0}}, True),
        ({}, {"text_encoders": {"train": "both", "rate": 1.0}}, False),
        ({"text_encoder*": 10.0}, {"text_encoders": {"train": "both"}}, True),
        ({"text_encoder.*": 10.0}, {"text_encoders": {"train": "both"}}, False),
    ],
)  # fmt: skip
def test_it_is_tried_with_the_rates_that_the_run_will_have(demo_checkpoint, rates, sections, accepted):
    profile = profile_of(demo_checkpoint, f"{HERE}.OneRate", more={"rates": rates}, **sections)
    problems = optimizer_problems(profile, read_base(demo_checkpoint))
    assert (not problems) == accepted, problems


def test_it_is_tried_with_the_dimensions_that_the_run_will_have(demo_checkpoint):
    header = read_base(demo_checkpoint)
    matrices = profile_of(demo_checkpoint, "torch.optim.Muon", layers={"train": ["to_q.weight"]})
    assert not optimizer_problems(matrices, header)
    assert optimizer_problems(profile_of(demo_checkpoint, "torch.optim.Muon"), header)


def test_without_a_base_the_rates_that_are_known_are_tried(demo_checkpoint):
    nothing = profile_of(demo_checkpoint, f"{HERE}.OneRate", more={"rates": {"mid_block.*": 0.5}})
    assert not optimizer_problems(nothing, None)
    encoder = profile_of(demo_checkpoint, f"{HERE}.OneRate", text_encoders={"train": "second"})
    assert optimizer_problems(encoder, None)


def test_a_run_says_every_problem_before_anything_is_cached(demo_checkpoint):
    arguments = {"betas": 0.9, "zzz": 1}
    with pytest.raises(ProfileError) as raised:
        open_base(profile_of(demo_checkpoint, "torch.optim.NAdam", more={"arguments": arguments}), resumed=False)
    assert [problem.path for problem in raised.value.problems] == [
        "optimizer.arguments.zzz",
        "optimizer.arguments.betas",
    ]


# -- python -m engine --------------------------------------------------------------------------------------------------


def engine(*arguments, modules=(), **environment):
    """Exit code, stdout and stderr of `python -m engine`, and which of `modules` it loaded."""
    code = (
        "import sys; from engine.__main__ import main; code = main(sys.argv[2:]); "
        "sys.stderr.write(' '.join(m for m in sys.argv[1].split(',') if m in sys.modules)); sys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, ",".join(modules), *map(str, arguments)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def write_profile(tmp_path, demo_checkpoint):
    def write(optimizer: str) -> Path:
        path = tmp_path / "profiles" / "small.toml"
        path.parent.mkdir()
        path.write_text(
            f"model.base = {json.dumps(str(demo_checkpoint))}\n"
            f"data.folders = [{{ path = {json.dumps(str(demo_checkpoint.parent / 'pictures'))} }}]\n"
            f"model.tokenizer = {json.dumps(str(demo_checkpoint.parent / 'tokenizer'))}\n"
            f"{optimizer}\n"
        )
        return path

    return write


HEAVY = ("diffusers", "transformers", "torch")


def test_verify_gives_one_document_exits_2_and_leaves_nothing(write_profile, tmp_path):
    text = (
        'optimizer = { kind = "imported", import_path = "tests.engine.chatty.Chatty", arguments = { momentum = -1 } }'
    )
    path = write_profile(text + '\ntext_encoders = { train = "both" }')
    done = engine("verify", path, modules=HEAVY, AOZORA_RUNS=str(tmp_path / "runs"))
    assert done.returncode == 2, done.stderr
    problem = {
        "path": "optimizer.arguments.momentum",
        "text": "arguments.momentum = -1 is refused: Invalid momentum value: -1",
        "remedy": "Its default is 0.9.",
        "severity": "error",
    }
    assert done.stdout == json.dumps({"problems": [problem]}, separators=(",", ":")) + "\n"
    assert "this package talks" in done.stderr and done.stderr.endswith("torch"), "what is heavier is not loaded"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["profiles"]


@pytest.mark.parametrize(("optimizer", "paths"), [("train.steps = 9", []), ("train.stepz = 9", ["train.stepz"])])
def test_verify_without_an_imported_optimizer_does_not_even_load_torch(write_profile, optimizer, paths):
    done = engine("verify", write_profile(optimizer), modules=HEAVY)
    assert [problem["path"] for problem in json.loads(done.stdout)["problems"]] == paths
    assert done.returncode == (2 if paths else 0) and not done.stderr


@pytest.fixture
def streams_and_signals():
    """What the engine takes over of a process that is its own is given back: here it is the tests'."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    for number, copy in kept:
        os.dup2(copy, number)
        os.close(copy)
    for number, handler in handlers:
        signal.signal(number, handler)


def test_a_refused_run_says_it_once(write_profile, tmp_path, monkeypatch, capfd, streams_and_signals):
    text = 'import_path = "torch.optim.NAdam", arguments = { betas = 0.9 }'
    path = write_profile(f'optimizer = {{ kind = "imported", {text} }}')
    monkeypatch.setenv("AOZORA_RUNS", str(tmp_path / "runs"))
    code = main(["train", str(path)])
    (failed,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert code == 2 and failed["event"] == "failed" and failed["code"] == "profile"
    assert "betas = 0.9 is refused" in failed["text"] and failed["remedy"] == "Its default is [0.9, 0.999]."
    assert failed["where"] == "optimizer.arguments.betas"


def test_a_refused_run_says_all_in_one_event():
    problems = [Problem("model.base", "is no file", "Name one."), Problem("train.steps", "0 is too few", "Take more.")]
    failed = _wrong_profile(problems)
    assert failed.text == "model.base: is no file. Name one. train.steps: 0 is too few. Take more."
    assert failed.remedy == "Correct them and start again." and not failed.where

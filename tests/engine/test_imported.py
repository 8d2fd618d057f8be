"""Optimizers of other packages against the same optimizers used directly, bit for bit."""

import copy
import importlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Size

from engine.optim.foreign_state import Record
from engine.optim.import_path import ImportedOptimizerError, find
from engine.optim.imported import Imported

HERE = "tests.engine.optimizers_of_others"
CPU = torch.device("cpu")
SHAPES = {"a.weight": Size((4, 3)), "b.weight": Size((2, 3, 3, 3)), "b.bias": Size((2,)), "a.bias": Size((4,))}
RATES = {"b.weight": 0.5, "b.bias": 0.5}
OTHERS = [
    ("torch.optim.SGD", {"momentum": 0.9, "weight_decay": 0.01}),
    ("torch.optim.NAdam", {"betas": [0.8, 0.95]}),
    ("torch.optim.RAdam", {}),
    ("torch.optim.Adagrad", {"initial_accumulator_value": 0.1}),
    ("torch.optim.Adamax", {}),
    ("torch.optim.Rprop", {}),
    (f"{HERE}.ScheduleFreeLike", {}),
    (f"{HERE}.ProdigyLike", {"betas": [0.8, 0.95]}),
]
every_optimizer = pytest.mark.parametrize(
    ("path", "arguments"), OTHERS, ids=[path.split(".")[-1] for path, _ in OTHERS]
)


def made(path, arguments, **changed):
    return Imported(
        path, arguments, **({"shapes": SHAPES, "device": CPU, "rates": RATES, "learning_rate": 0.01} | changed)
    )


def masters_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def gradients_of(step):
    return {name: tensor * 0.1 for name, tensor in masters_of(100 + step).items()}


def rate_of(step):
    return 10.0 / (1 + step)  # coarse: the way from y to x and back is then not exact


def train(optimizer, masters, steps, names=tuple(SHAPES)):
    for step in steps:
        optimizer.begin_step()
        for name in names:
            moved = optimizer.update(
                name, masters[name], gradients_of(step)[name], rate_of(step) * RATES.get(name, 1.0)
            )
            assert moved.shape == () and moved.dtype == torch.float32
        for name, master in optimizer.finish_step().items():
            masters[name].copy_(master)
    return masters


def class_at(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def train_directly(path, arguments, steps):
    parameters = {name: torch.nn.Parameter(master) for name, master in masters_of().items()}
    groups = [{"params": [parameters[n] for n in SHAPES if RATES.get(n, 1.0) == f]} for f in (1.0, 0.5)]
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    optimizer = class_at(path)(groups, lr=0.01, **settings)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for step in steps:
        for group, factor in zip(optimizer.param_groups, (1.0, 0.5), strict=True):
            group["lr"] = rate_of(step) * factor
        for name, parameter in parameters.items():
            parameter.grad = gradients_of(step)[name]
        optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}, optimizer


def frozen(optimizer):
    return {key: tensor.clone() for key, tensor in optimizer.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


@every_optimizer
def test_five_steps_are_those_of_the_optimizer_used_directly(path, arguments):
    ours = train(made(path, arguments), masters_of(), range(5))
    theirs, _ = train_directly(path, arguments, range(5))
    assert_same(ours, theirs)


@every_optimizer
def test_a_resume_from_a_file_goes_on_as_if_unbroken(path, arguments, tmp_path):
    unbroken = train(made(path, arguments), masters_of(), range(6))
    first = made(path, arguments)
    masters = train(first, masters_of(), range(3))
    save_file(first.state_dict(), tmp_path / "optimizer.safetensors")
    second = made(path, arguments)
    second.load_state_dict(load_file(tmp_path / "optimizer.safetensors"))
    assert second.taken == 3
    assert_same(frozen(second), frozen(first))
    assert_same(train(second, masters, range(3, 6)), unbroken)


@every_optimizer
@pytest.mark.parametrize("steps", [0, 2])
def test_a_rehearsal_changes_nothing(path, arguments, steps):
    rehearsed, plain = made(path, arguments), made(path, arguments)
    masters = train(rehearsed, masters_of(), range(steps))
    others = train(plain, masters_of(), range(steps))
    held = {name: parameter.detach().clone() for name, parameter in rehearsed._parameters.items()}
    rehearsed.rehearse("b.weight", torch.zeros(SHAPES["b.weight"]))
    assert_same({name: parameter.detach() for name, parameter in rehearsed._parameters.items()}, held)
    assert_same(frozen(rehearsed), frozen(plain))
    assert_same(train(rehearsed, masters, range(steps, 4)), train(plain, others, range(steps, 4)))


@every_optimizer
def test_names_that_rest_are_untouched_and_not_returned(path, arguments):
    optimizer = made(path, arguments)
    masters = train(optimizer, masters_of(), range(2))
    before, kept = frozen(optimizer), {name: master.clone() for name, master in masters.items()}
    optimizer.begin_step()
    optimizer.update("a.bias", masters["a.bias"], gradients_of(2)["a.bias"], 0.01)
    changed = optimizer.finish_step()
    assert changed.keys() == {"a.bias"} and not torch.equal(changed["a.bias"], kept["a.bias"])
    after = frozen(optimizer)
    for name in SHAPES.keys() - {"a.bias"}:
        assert torch.equal(optimizer._parameters[name], kept[name])
        for key in before:
            if key.startswith(f"{name}.."):
                assert torch.equal(before[key], after[key])


def test_buffers_are_those_of_the_constructor():
    optimizer = made("torch.optim.SGD", {})
    before = [tensor.data_ptr() for tensor in (*optimizer._parameters.values(), *optimizer._gradients.values())]
    train(optimizer, masters_of(), range(2))
    after = [tensor.data_ptr() for tensor in (*optimizer._parameters.values(), *optimizer._gradients.values())]
    assert before == after
    assert all(parameter.grad is optimizer._gradients[name] for name, parameter in optimizer._parameters.items())


def test_a_schedule_free_optimizer_shows_its_average_and_trains_on_unchanged():
    path = f"{HERE}.ScheduleFreeLike"
    optimizer, plain = made(path, {}), made(path, {})
    masters, others = (train(one, masters_of(), range(3)) for one in (optimizer, plain))
    direct, theirs = train_directly(path, {}, range(3))
    theirs.eval()
    before = frozen(optimizer)
    with optimizer.evaluating(masters.__getitem__) as shown:
        assert_same(dict(shown), direct)
        assert not torch.equal(shown["a.weight"], masters["a.weight"])
    assert_same(frozen(optimizer), before)
    assert_same({name: parameter.detach() for name, parameter in optimizer._parameters.items()}, masters)
    assert_same(train(optimizer, masters, range(3, 5)), train(plain, others, range(3, 5)))


@pytest.mark.parametrize(
    ("path", "fails_in"),
    [("FailsAtOnce", "its first step"), ("FailsLater", "step 3"), ("FailsWhenShown", "its eval()")],
)
def test_what_the_class_raises_is_told_by_its_first_line(path, fails_in):
    optimizer = made(f"{HERE}.{path}", {})
    with pytest.raises(ImportedOptimizerError) as raised:
        if path == "FailsAtOnce":
            optimizer.rehearse("b.weight", torch.zeros(SHAPES["b.weight"]))
        masters = train(optimizer, masters_of(), range(4 if path == "FailsLater" else 1))
        with optimizer.evaluating(masters.__getitem__):
            pass
    assert str(raised.value) == f"{HERE}.{path} fails in {fails_in}: no rate like this. Choose another class."


def test_a_preview_that_fails_leaves_the_optimizer_training():
    optimizer = made(f"{HERE}.ScheduleFreeLike", {})
    masters = train(optimizer, masters_of(), range(2))
    before = frozen(optimizer)
    with pytest.raises(KeyError), optimizer.evaluating(masters.__getitem__):
        raise KeyError
    assert_same(frozen(optimizer), before)
    train(optimizer, masters, [2])


def test_others_show_their_masters():
    with made("torch.optim.NAdam", {}).evaluating(masters_of().__getitem__) as shown:
        assert shown == {}


def test_state_keeps_its_types_and_every_number():
    optimizer = made(f"{HERE}.ProdigyLike", {"growth": float("inf")})
    train(optimizer, masters_of(), range(2))
    optimizer._optimizer.param_groups[1]["d"] = float("nan")
    state = frozen(optimizer)
    assert all(state[f"{name}..half.m"].dtype == torch.bfloat16 for name in SHAPES)
    other = made(f"{HERE}.ProdigyLike", {})
    other.load_state_dict(state)
    ours, theirs = optimizer._optimizer.param_groups, other._optimizer.param_groups
    assert theirs[1]["d"] != theirs[1]["d"]
    for key in ("betas", "growth", "dtype", "d"):
        assert type(ours[0][key]) is type(theirs[0][key]) and ours[0][key] == theirs[0][key]
    assert theirs[0]["seen"] == ours[0]["seen"] and theirs[0]["k"].dtype == torch.int32
    assert theirs[0]["k"] is theirs[1]["k"]
    assert other._optimizer.state[other._parameters["a.bias"]]["half"][8] == (1, "u")
    assert other._optimizer.calls == 2


@pytest.mark.parametrize(
    ("key", "shape", "host", "saved_on", "place"),
    [
        ("a..step", [], True, "cuda", "cpu"),  # torch counts steps on the host ...
        ("a..step", [], True, "cpu", "cpu"),
        ("a..step", [], False, "cuda", "cuda"),  # ... unless told otherwise (capturable, fused)
        ("a..exp_avg", [2], True, "cuda", "cpu"),
        ("a..exp_avg", [2], True, "cpu", "cuda"),
    ],
)
def test_a_tensor_returns_to_the_kind_of_device_that_it_was_on(key, shape, host, saved_on, place):
    optimizer = made("torch.optim.NAdam", {})
    record = Record(optimizer="", device=saved_on, shapes={}, names=[], groups=[], state=[], shared=None, numbers={})
    optimizer._device = torch.device("cuda")
    assert optimizer._place({"tensor": key, "shape": shape, "host": host}, record).type == place


def test_state_that_does_not_fit_is_refused_with_nothing_changed():
    first = made("torch.optim.NAdam", {})
    train(first, masters_of(), range(2))
    good = frozen(first)
    second = made("torch.optim.NAdam", {})
    train(second, masters_of(3), range(1))
    before = frozen(second)
    key = "a.bias..exp_avg"
    other_shapes = {**SHAPES, "a.bias": Size((5,))}
    for bad, words in [
        ({name: tensor for name, tensor in good.items() if name != key}, f"lacks {key}"),
        (good | {key: good[key].bfloat16()}, f"{key} is torch.bfloat16"),
        (good | {key: good[key][:2]}, rf"{key} is torch.float32 \(2,\)"),
        (good | {"c..exp_avg": good[key]}, "does not belong to it: c..exp_avg"),
        (good | {"taken": torch.zeros(2)}, "not the optimizer state"),
        ({"taken": torch.tensor(1), "a.v": torch.zeros(2)}, "not the optimizer state of torch.optim.NAdam"),
        (frozen(made("torch.optim.RAdam", {})), "state of torch.optim.RAdam, not of torch.optim.NAdam"),
        (frozen(made("torch.optim.NAdam", {}, shapes=other_shapes)), "does not fit the selected layers: a.bias"),
        (frozen(made("torch.optim.NAdam", {}, rates={})), "other learning-rate factors"),
    ]:
        with pytest.raises(ValueError, match=words):
            second.load_state_dict(bad)
        assert_same(frozen(second), before)
        assert second.taken == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('CUDA Setup failed.\\nLong story')", "fails with RuntimeError: CUDA Setup failed"),
        ("import a_missing_dependency", "No module named 'a_missing_dependency'"),
        ("raise SystemExit", "fails with SystemExit"),
    ],
)
def test_a_broken_package_is_told_by_its_first_line(source, words, tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportedOptimizerError, match=words) as raised:
        find("broken_package.Optimizer", {})
    assert "Mend the installation of broken_package" in raised.value.problems[0].remedy and "\n" not in str(
        raised.value
    )


def test_further_keywords_are_passed_on_and_lists_become_tuples():
    built = find(f"{HERE}.AnyArguments", {"momentum": 0.5})([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    assert built.defaults["momentum"] == 0.5
    arguments = {"betas": [0.8, 0.95]}
    given = copy.deepcopy(arguments)
    optimizer = find("torch.optim.NAdam", arguments)([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    assert optimizer.defaults["betas"] == (0.8, 0.95) and arguments == given

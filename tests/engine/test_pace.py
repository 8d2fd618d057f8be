"""Rates, rests, commands and spikes as functions of the step."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.contract.curves import rate
from engine.contract.profile import decode_profile
from engine.contract.sections import Profile
from engine.run.errors import RunError
from engine.run.pace import Pace, Steering


def profile(**sections: dict[str, object]) -> Profile:
    raw = {"model": {"base": "x"}, "data": {"folders": [{"path": "x"}]}, "train": {"steps": 100}} | sections
    made, problems = decode_profile(raw)
    assert made is not None, problems
    return made


def pace(tmp_path: Path, settings: Profile, **options) -> Pace:
    given = {"factors": {}, "stopping": frozenset(), "steering": Steering(tmp_path / "steering.json")} | options
    return Pace(settings, ["a", "b"], **given)


def test_each_tensor_has_the_schedules_rate_times_its_factor(tmp_path):
    settings = profile(optimizer={"learning_rate": 1e-3}, schedule={"shape": "linear", "warmup": 0.0})
    rates = pace(tmp_path, settings, factors={"b": 0.1}).rates(50)
    assert rates("a") == pytest.approx(1e-3 * rate(settings.schedule, 50, 100)) == pytest.approx(5e-4)
    assert rates("b") == pytest.approx(5e-5)


def test_a_commanded_factor_holds_from_its_step_on_and_after_a_resume(tmp_path):
    settings = profile(optimizer={"learning_rate": 1e-3}, schedule={"shape": "constant", "warmup": 0.0})
    first = pace(tmp_path, settings)
    first.steering.steer(10, 0.5)
    first.steering.steer(20, 2.0)
    for each in (first, pace(tmp_path, settings)):
        assert [each.lr(step) for step in (9, 10, 19, 20)] == pytest.approx([1e-3, 5e-4, 5e-4, 2e-3])


def test_a_command_in_a_resumed_run_undoes_what_was_commanded_later_the_first_time(tmp_path):
    steering = Steering(tmp_path / "steering.json")
    steering.steer(10, 0.5)
    steering.steer(20, 2.0)
    steering.steer(15, 3.0)
    assert [steering.factor(step) for step in (12, 15, 25)] == [0.5, 3.0, 3.0]
    steering.steer(15, 1.0)
    assert Steering(tmp_path / "steering.json").factor(99) == 1.0


def test_a_damaged_file_of_commands_is_one_sentence(tmp_path):
    (tmp_path / "steering.json").write_text("[[1,")
    with pytest.raises(RunError, match=r"steering\.json"):
        Steering(tmp_path / "steering.json")


def test_a_factor_of_0_rests_and_text_encoders_rest_after_their_last_step(tmp_path):
    settings = profile(text_encoders={"train": "first", "stop_after": 30})
    made = pace(tmp_path, settings, factors={"a": 0.0}, stopping=frozenset({"a"}))
    assert made.resting(0) == made.resting(99) == {"a"}
    made = pace(tmp_path, settings, stopping=frozenset({"b"}))
    assert made.resting(29) == frozenset() and made.resting(30) == {"b"}


def test_a_run_in_which_nobody_learns_ends_with_a_sentence(tmp_path):
    settings = profile(text_encoders={"train": "first", "stop_after": 30})
    with pytest.raises(RunError, match="every layer rests"):
        pace(tmp_path, settings, factors={"a": 0.0}, stopping=frozenset({"b"})).resting(30)


def test_a_spike_is_scaled_down_to_the_percentile_of_the_last_hundred_losses(tmp_path):
    settings = profile(train={"steps": 100, "damping": 90.0})
    losses = np.random.default_rng(0).uniform(0.1, 0.2, 150)
    made = pace(tmp_path, settings)
    assert made.damping(9.0) is None, "nothing is known yet"
    for loss in losses:
        made.note(float(loss))
    limit = float(np.percentile(losses[-100:], 90.0))
    damping = made.damping(1.0)
    assert damping is not None and (damping.limit, damping.factor) == pytest.approx((limit, limit))
    assert made.damping(limit * 0.99) is None


def test_what_is_usual_survives_a_resume(tmp_path):
    settings = profile(train={"steps": 100, "damping": 90.0})
    first = pace(tmp_path, settings)
    for index in range(60):
        first.note(0.1 + index / 1000)
    second = pace(tmp_path, settings, losses=msgspec.json.decode(msgspec.json.encode(first.losses), type=list[float]))
    assert second.damping(1.0) == first.damping(1.0) != None  # noqa: E711 - one chain


def test_damping_is_off_by_default(tmp_path):
    made = pace(tmp_path, profile())
    for _ in range(50):
        made.note(0.1)
    assert made.damping(100.0) is None

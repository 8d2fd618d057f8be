"""The loss on held-out pictures, by real runs on a handful of the demo's."""

import math
import shutil

import pytest
import torch
from diffusers import DDPMScheduler

from engine.contract import events, snapshot
from engine.contract.held_out import held_out
from engine.contract.timesteps import cumulative, density
from engine.data.cache import Cache
from engine.objective.randomness import noise_of, timesteps_of
from engine.run import validate
from engine.run.errors import RunError
from tests.end_to_end.harness import FEW, changed, of_type, run_here, write_profile
from tests.engine.folders import pipeline_of

HELD = {"validation": {"pictures": 2, "every": 2}, "save": {"export": False}, "preview": {"prompts": ()}}


def profile_of(place, demo, **sections):
    return changed(write_profile(place, demo, steps=4, accumulate=1, layers=FEW), **HELD | sections)


def losses_of(run):
    return {event.step: event.loss for event in of_type(run, events.Validated)}


@pytest.fixture
def measured(encoded, demo_folder):
    return run_here(profile_of(encoded, demo_folder), encoded / "runs")


def test_it_is_measured_at_the_start_every_so_often_and_at_the_end_and_moves_nothing(measured, encoded, demo_folder):
    told = of_type(measured, events.Validated)
    assert [event.step for event in told] == [0, 2, 4]
    assert {(event.pictures, event.samples) for event in told} == {(2, 8)}
    assert all(math.isfinite(event.loss) and event.loss > 0 for event in told)
    assert len({event.loss for event in told}) == 3
    (epoch,) = of_type(measured, events.Epoch)
    assert epoch.samples == 2 * 3  # five pictures twice, but for two
    rare = run_here(profile_of(encoded, demo_folder, validation={"pictures": 2, "every": 0}), encoded / "rare")
    assert losses_of(rare) == {step: loss for step, loss in losses_of(measured).items() if step != 2}
    assert [event.loss for event in of_type(rare, events.Step)] == [
        event.loss for event in of_type(measured, events.Step)
    ]


def test_at_the_start_it_is_what_diffusers_makes_of_the_base(encoded, demo_folder):
    profile = profile_of(encoded, demo_folder, objective={"loss_weight": "none"})
    measured, objective = run_here(profile, encoded / "runs"), profile.objective
    said = (objective.prediction_type, objective.zero_terminal_snr, objective.loss, objective.loss_weight)
    assert said == ("v_prediction", True, "mse", "none")
    items = snapshot.decode((measured.path / snapshot.NAME).read_bytes()).items
    places = held_out([(item.identity.size, *item.original) for item in items], 2)
    cache, count = Cache(encoded / "cache"), validate.SAMPLES_EACH
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )
    table = cumulative(density(objective))
    unet = pipeline_of(demo_folder).unet
    losses = []
    for number, (place,) in enumerate(places):
        item, positions = items[place], range(number * count, (number + 1) * count)
        latents = cache.load_latents(item).expand(count, -1, -1, -1)
        timesteps = timesteps_of(validate.SEED, positions, table, strata=2 * count)
        noise = noise_of(validate.SEED, positions, latents.shape[1:])
        context, pooled = cache.load_text(item)
        with torch.no_grad():
            answer = unet(
                scheduler.add_noise(latents, noise, timesteps),
                timesteps,
                context.expand(count, -1, -1),
                added_cond_kwargs={
                    "text_embeds": pooled.expand(count, -1),
                    "time_ids": torch.tensor([item.time_ids] * count, dtype=torch.float32),
                },
            ).sample
        error = answer.double() - scheduler.get_velocity(latents, noise, timesteps).double()
        losses += error.square().mean((1, 2, 3)).tolist()
    assert losses_of(measured)[0] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_timesteps_are_spread_over_the_density_that_is_drawn_from(encoded, demo_folder):
    objective = profile_of(encoded, demo_folder).objective
    assert objective.timesteps == "noisier_half"
    drawn = timesteps_of(validate.SEED, range(64), cumulative(density(objective)), strata=64)
    table = cumulative(density(objective))
    shares = sorted(table[int(each)] for each in drawn)
    assert all(abs(share - (at + 0.5) / 64) < 1.5 / 64 for at, share in enumerate(shares))


@pytest.mark.parametrize("plan", ["stage-major", "fast"])
def test_every_plan_measures_the_same(measured, encoded, demo_folder, plan):
    other = run_here(profile_of(encoded, demo_folder, memory={"plan": plan, "group": 1}), encoded / "other")
    assert losses_of(other) == pytest.approx(losses_of(measured), rel=1e-4)


def test_the_average_is_measured_where_one_is_kept(measured, encoded, demo_folder):
    slow = profile_of(encoded, demo_folder, ema={"decay": 0.999999, "warmup": False})
    still = losses_of(run_here(slow, encoded / "average"))
    assert still[4] == pytest.approx(still[0], rel=1e-5)
    assert losses_of(measured)[4] != pytest.approx(still[0], rel=1e-3)


def test_text_encoders_that_learn_read_the_captions_as_they_are_then(encoded, demo_folder):
    learning = profile_of(encoded, demo_folder, text_encoders={"train": "both", "rate": 1.0})
    assert set(losses_of(run_here(learning, encoded / "both"))) == {0, 2, 4}


def test_copies_of_what_is_held_out_are_not_trained_on(encoded, demo_folder, measured):
    items = snapshot.decode((measured.path / snapshot.NAME).read_bytes()).items
    places = held_out([(item.identity.size, *item.original) for item in items], 2)
    held = items[places[0][0]].path
    shutil.copy(held, held.with_name("copy.png"))
    shutil.copy(held.with_suffix(".txt"), held.with_name("copy.txt"))
    run = run_here(profile_of(encoded, demo_folder), encoded / "copied")
    (epoch,) = of_type(run, events.Epoch)
    assert epoch.samples == 2 * 3
    assert losses_of(run) == losses_of(measured)


def test_more_than_there_are_is_told_before_anything_is_trained(encoded, demo_folder):
    with pytest.raises(RunError, match=r"validation\.pictures: 5 pictures cannot be held out: there are only 5"):
        run_here(profile_of(encoded, demo_folder, validation={"pictures": 5}), encoded / "many")


def test_what_cannot_be_measured_is_a_warning_and_the_run_goes_on(encoded, demo_folder, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(validate.Validator, "_answer", full)
    run = run_here(profile_of(encoded, demo_folder), encoded / "full")
    warned = [event for event in of_type(run, events.Warned) if event.code == "validation-failed"]
    assert warned[0].text.startswith("the validation of step 0 could not be made: the card has")
    assert len(warned) == 3 and not losses_of(run)
    assert of_type(run, events.Finished)[-1].reason == "finished"


def test_a_loss_that_is_not_finite_is_no_number(encoded, demo_folder, monkeypatch):
    answer = validate.Validator._answer
    monkeypatch.setattr(validate.Validator, "_answer", lambda *given: answer(*given) * float("nan"))
    run = run_here(profile_of(encoded, demo_folder), encoded / "nan")
    assert not losses_of(run)
    warned = [event.text for event in of_type(run, events.Warned) if event.code == "validation-failed"]
    assert len(warned) == 3 and all("is not finite" in text for text in warned)


def test_who_stops_meanwhile_resumes_where_an_undisturbed_run_goes_on(measured, encoded, demo_folder):
    profile = profile_of(encoded, demo_folder)
    run = run_here(profile, encoded / "stopped", stop_in="validate", stop_at=3)
    assert of_type(run, events.Finished)[-1].reason == "stopped"
    run_here(profile, encoded / "stopped", run=run)
    assert losses_of(run) == losses_of(measured)
    after = {event.step: event.loss for event in of_type(run, events.Step)}
    assert after == {event.step: event.loss for event in of_type(measured, events.Step)}


def test_a_resume_may_look_more_often_but_not_hold_out_others(encoded, demo_folder):
    profile = profile_of(encoded, demo_folder, save={"every": 2, "export": False})
    run = run_here(profile, encoded / "again", stop_after_step=2)
    with pytest.raises(RunError, match=r"validation\.pictures was 2, is 1"):
        run_here(changed(profile, validation={"pictures": 1}), encoded / "again", run=run)
    run_here(changed(profile, validation={"every": 1}), encoded / "again", run=run)
    assert set(losses_of(run)) == {0, 2, 3, 4}

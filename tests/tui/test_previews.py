"""Which pictures a run has drawn, from its events."""

import fake_run
import sample_runs

from aozora_tui.previews import Prompt, previews, settings_words
from aozora_tui.run_state import RunState
from engine.contract import events


def sampled(step, number=1, *, prompt="a cat", weights="", time=1.0, path="", **settings):
    given = {**({"weights": weights} if weights else {}), **settings}
    path = path or f"samples/step-{step:06d}-{number}.png"
    return events.Sampled(time=time, step=step, path=path, prompt=prompt, settings=given)


def test_prompts_come_in_the_order_of_the_profile_and_steps_in_theirs(tmp_path):
    found = previews(
        [sampled(200, 2, prompt="a dog"), sampled(200, 1), sampled(100, 1), sampled(100, 10, prompt="last")], tmp_path
    )
    assert found.prompts == (Prompt(1, "a cat"), Prompt(2, "a dog"), Prompt(10, "last"))
    assert found.steps == (100, 200)
    assert found.at(Prompt(1, "a cat"), 100, "").path == tmp_path / "samples/step-000100-1.png"
    assert found.at(Prompt(2, "a dog"), 100, "") is None


def test_a_prompt_that_a_resume_changed_is_another_row(tmp_path):
    found = previews([sampled(100, prompt="a cat"), sampled(200, prompt="a tiger")], tmp_path)
    assert [prompt.text for prompt in found.prompts] == ["a cat", "a tiger"]


def test_a_picture_that_is_drawn_again_is_another_one(tmp_path):
    before, after = (previews([sampled(100, time=time)], tmp_path) for time in (1.0, 2.0))
    both = previews([sampled(100, time=1.0), sampled(100, time=2.0)], tmp_path)
    prompt = Prompt(1, "a cat")
    assert len(both.drawn) == 1
    assert both.at(prompt, 100, "") == after.at(prompt, 100, "") != before.at(prompt, 100, "")


def test_weights_are_told_apart_and_the_untouched_model_is_neither(tmp_path):
    found = previews(
        [sampled(0), sampled(100, weights="average"), sampled(100, weights="latest"), sampled(200, weights="average")],
        tmp_path,
    )
    prompt = Prompt(1, "a cat")
    assert found.weights == ("latest", "average")
    assert [each.weights for each in found.all_at(prompt, 100)] == ["latest", "average"]
    assert found.base(prompt).step == 0
    assert found.at(prompt, 200, "latest").weights == "average"  # what there is


def test_a_run_names_no_file_outside_its_folder(tmp_path):
    for path in ("/etc/passwd", "../other/samples/a.png", "samples/a\0.png"):
        found = previews([sampled(100, path=path)], tmp_path)
        assert [each.path for each in found.drawn.values()] == [None]


def test_the_settings_are_said_as_far_as_the_run_says_them(tmp_path):
    run = sample_runs.drawn(tmp_path, steps=(0, 100))
    state = RunState(watch=None)
    state.apply(events.Tail(run.events).read())
    found = previews(state.samples, run.path)
    at = found.at(found.prompts[0], 100, "")
    assert settings_words(at) == ("seed 7", "DDIM 28 sampler steps", "guidance 4.5", "512x512")
    bare = previews([sampled(100, weights="average", guidance="much", width=-1, height=4)], tmp_path)
    preview = bare.at(bare.prompts[0], 100, "")
    assert settings_words(preview) == ("average weights",) and preview.size == (1024, 1024)


def test_pictures_of_steps_that_a_resume_goes_over_again_are_gone(tmp_path):
    run = sample_runs.drawn(tmp_path)
    fake_run.add(run, fake_run.started(run, step=150))
    state = RunState(watch=None)
    state.apply(events.Tail(run.events).read())
    assert previews(state.samples, run.path).steps == (0, 100)

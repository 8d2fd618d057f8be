"""A person's own keys: read as they are written, checked against what they would be pressed beside."""

import string

import pytest
from textual.keys import _character_to_key
from textual.widgets import Input

from aozora_tui.key_names import WORDS, read_key, shown, sign_name
from aozora_tui.keymap import SCOPES
from aozora_tui.own_keys import EDITING, Keys, groups, read_keys

TABLE = {key.id: key for keys in SCOPES.values() for key in keys}


def sentences(written):
    return [str(problem) for problem in read_keys(written)[1]]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("F2", "f2"),
        ("ctrl+x", "ctrl+x"),
        ("Ctrl-X", "ctrl+x"),
        ("?", "question_mark"),
        ("+", "plus"),
        ("ctrl++", "ctrl+plus"),
        ("esc", "escape"),
        ("PgDn", "pagedown"),
        ("G", "G"),
        ("shift+g", "G"),
        ("shift+ctrl+left", "ctrl+shift+left"),
        ("control + x", "ctrl+x"),
        ("comma", "comma"),
        ("ö", "ö"),
    ],
)
def test_a_key_is_read_as_people_write_it(written, key):
    assert read_key(written) == key


@pytest.mark.parametrize(
    ("written", "meant"), [("crtl+x", "ctrl+x"), ("entre", "enter"), ("hjk", ""), ("", ""), ("super+q", "")]
)
def test_what_is_no_key_is_guessed_or_refused(written, meant):
    with pytest.raises(ValueError, match=f"^{meant.replace('+', '.')}$"):
        read_key(written)


def test_signs_have_the_names_that_textual_gives_them():
    for sign in string.punctuation + string.ascii_letters + string.digits + "ß§":
        assert sign_name(sign) == _character_to_key(sign)


def test_a_name_on_the_key_bar_can_be_written_into_the_file():
    for key in TABLE.values():
        for name in key.keys.split(","):
            assert read_key("comma" if name == "comma" else shown(name)) == name
    assert all(read_key(word) == word for word in WORDS)


def test_own_keys_replace_those_of_the_table_and_no_others():
    keys, problems = read_keys({"profile.save": "F2, ctrl+k"})
    assert problems == []
    by_id = {key.id: key for key in keys.scope("profile")}
    assert by_id["profile.save"].names == ("F2", "ctrl+k")
    assert by_id["profile.undo"] == TABLE["profile.undo"]
    assert (keys.name("profile.save"), keys.name("app.help")) == ("F2", "?")
    assert Keys().scope("run") == SCOPES["run"]


def test_every_default_written_out_is_accepted():
    assert sentences({id: key.keys for id, key in TABLE.items()}) == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"profile.sav": "f2"}, 'keys."profile.sav": there is no such command. Did you mean `profile.save`?'),
        ({"zzz": "f2"}, "keys.zzz: there is no such command. `aozora-tui settings --example` lists every command."),
        ({"run.log": "crtl+l"}, 'keys."run.log": there is no key called "crtl+l". Did you mean "ctrl+l"?'),
        ({"run.log": "f4,,f7"}, 'a key without a name. Write one, as "f2", or several'),
        ({"run.log": ""}, 'a key without a name. Write one, as "f2", or several'),
        (
            {"run.log": "p"},
            'keys."run.log": "p" is the key of `run.pause` there (Pause after the present step, or go on). '
            "Take another; until then it stays l.",
        ),
        ({"home.start": "j"}, '"j" is the key of `list.down` there'),
        ({"list.down": "s"}, '"s" is the key of `home.start` there'),
        ({"run.log": "q"}, '"q" is the key of `app.quit` there'),
        ({"app.help": "x"}, '"x" is the key of'),
        ({"ask.cancel": "n"}, "letters and signs are answers in a panel"),
    ],
)
def test_an_entry_that_is_wrong_or_clashes_is_told_and_left_out(written, said):
    keys, problems = read_keys(written)
    assert len(problems) == 1 and said in str(problems[0]), problems
    assert problems[0].severity == "error" and keys.own == {}


def test_keys_may_be_swapped_and_taken_from_a_command_that_gets_another():
    for written in (
        {"home.start": "d", "home.duplicate": "s"},
        {"run.pause": "l", "run.log": "f4"},
        {"run.log": "f4", "run.pause": "l"},
    ):
        keys, problems = read_keys(written)
        assert problems == [] and dict(keys.own) == written


def test_what_leaned_on_an_entry_that_was_left_out_is_left_out_too():
    keys, problems = read_keys({"run.pause": "l", "run.log": "q", "run.sample": "f4"})
    assert dict(keys.own) == {"run.sample": "f4"}
    assert [problem.path for problem in problems] == ['keys."run.log"', 'keys."run.pause"']


def test_of_two_entries_with_one_key_the_first_has_it():
    keys, problems = read_keys({"run.log": "f4", "run.save": "f4"})
    assert dict(keys.own) == {"run.log": "f4"} and 'keys."run.save"' in str(problems[0])


def test_the_same_key_on_two_screens_is_no_clash():
    assert sentences({"run.log": "f4"}) == [] and any("f4" in key.keys for key in SCOPES["profile"])


def test_a_key_that_the_table_shares_on_purpose_stays_shared():
    assert {"choice.next", "profile.into"} <= {key.id for key in TABLE.values() if "right" in key.keys.split(",")}
    assert sentences({"profile.into": "right,f3"}) == [
        'keys."profile.into": F3 may not arrive: VS Code takes it. Have another one beside it.'
    ]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("ctrl+m", "is enter to a terminal"),
        ("ctrl+i", "is tab to a terminal"),
        ("ctrl+[", "is esc to a terminal"),
        ("ctrl+b", "tmux takes it"),
        ("ctrl+s", "flow control takes it"),
        ("ctrl+z", "job control takes it"),
        ("f11", "VS Code takes it"),
        ("alt+left", "macOS takes it"),
        ("ctrl+shift+x", "from few terminals only"),
        ("shift+enter", "from few terminals only"),
    ],
)
def test_a_key_that_terminals_eat_is_taken_with_a_warning(key, why):
    keys, problems = read_keys({"run.log": f"f4,{key}"})
    assert [problem.severity for problem in problems] == ["warning"] and why in str(problems[0])
    assert keys.own["run.log"] == f"f4,{read_key(key)}"


def test_only_letters_where_text_is_typed_is_a_warning():
    for written in ("w", "w,ctrl+x", "w,comma"):
        assert any("while a text field has the focus" in said for said in sentences({"profile.save": written}))
    assert sentences({"profile.save": "w,ctrl+g", "profile.tool": "f12"}) == []


def test_what_edits_text_is_what_textual_binds_in_a_text_field():
    bound = {key.strip() for binding in Input.BINDINGS for key in binding.key.split(",")}
    assert {key for key in bound if key.startswith("ctrl+") and len(key) == 6} <= EDITING


def test_every_scope_is_in_a_group_and_panels_are_alone():
    grouped = {scope for group in groups() for scope in group}
    assert grouped == set(SCOPES)
    assert ("ask",) in groups() and ("help",) in groups()

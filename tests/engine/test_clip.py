"""CLIP's end of text."""

from engine.contract.clip import end_of_text


def test_the_end_of_text_is_clips_own_also_where_tokens_were_added_behind_it():
    assert [end_of_text(rows) for rows in (49408, 49409, 60000)] == [49407] * 3
    assert [end_of_text(rows) for rows in (512, 49407)] == [511, 49406]

"""Decoding under one limit, in several threads."""

import threading
import warnings

import pytest
from PIL import Image

from engine.contract.picture_file import limited_decoding


def test_filters_are_put_back_by_whoever_leaves_last():
    before = list(warnings.filters)
    entered, leave = threading.Event(), threading.Event()

    def other():
        with limited_decoding():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with limited_decoding():
        thread.start()
        assert entered.wait(10)
    with pytest.raises(Image.DecompressionBombWarning):
        warnings.warn("large", Image.DecompressionBombWarning, stacklevel=1)
    leave.set()
    thread.join()
    assert list(warnings.filters) == before

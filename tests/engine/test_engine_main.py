"""What the engine sets before torch is there."""

import os

import pytest

from engine import __main__


@pytest.fixture
def _untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("platform", "expected"), [("linux", "expandable_segments:True"), ("win32", None)])
def test_the_cards_memory_grows_in_one_piece_on_linux(monkeypatch, _untouched, platform, expected):
    monkeypatch.setattr("sys.platform", platform)
    __main__._have_memory_in_one_piece()
    assert os.environ.get("PYTORCH_CUDA_ALLOC_CONF") == expected


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_what_the_user_has_set_stays(monkeypatch, _untouched, name):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv(name, "max_split_size_mb:128")
    before = dict(os.environ)
    __main__._have_memory_in_one_piece()
    assert dict(os.environ) == before

"""Every test of the interface has folders of its own, one time zone, and all glyphs."""

import time

import pytest


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    for name in ("DATA", "CACHE", "RUNS", "PROFILES"):
        monkeypatch.setenv(f"AOZORA_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))  # empty: no test may lean on what this machine has
    monkeypatch.setenv("AOZORA_ASCII", "0")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()

"""Every test of the interface has folders of its own, one time zone, and all glyphs."""

import time

import fake_checkpoint
import pytest
import stillness


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    for name in ("DATA", "CACHE", "RUNS", "PROFILES", "CONFIG"):
        monkeypatch.setenv(f"AOZORA_{name}", str(tmp_path / name.lower()))
    # Profiles here name no tokenizer, and no test may lean on what this machine has in its cache.
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    fake_checkpoint.write_tokenizer(tmp_path / "hub" / "models--openai--clip-vit-large-patch14" / "snapshots" / "a")
    monkeypatch.setenv("AOZORA_ASCII", "0")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    time.tzset()
    stillness.patch_pilot(monkeypatch)
    yield tmp_path
    monkeypatch.undo()
    time.tzset()

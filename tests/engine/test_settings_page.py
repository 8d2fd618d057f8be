"""The page of settings says what the definitions say."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_settings_is_up_to_date():
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "scripts" / "settings.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TARGET.read_text(encoding="utf-8") == script.document(), "run python scripts/settings.py"

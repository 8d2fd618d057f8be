"""The tables of keys that `aozora_tui.keymap` puts together."""

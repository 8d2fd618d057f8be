"""The pictures that a run started with, and how they were encoded: what it draws from then on, whatever becomes of the
folders. A JSON file in the run's folder."""

import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from engine.contract.items import Encoding, Item

NAME = "dataset.json"


class Snapshot(NamedTuple):
    encoding: Encoding
    items: tuple[Item, ...]


def encode(snapshot: Snapshot) -> str:
    return msgspec.json.encode(snapshot, enc_hook=_path_as_text).decode()


def decode(data: bytes) -> Snapshot:
    """Raises ValueError if it is damaged."""
    try:
        return msgspec.json.decode(data, type=Snapshot, dec_hook=_text_as_path)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _path_as_text(path: Path) -> str:
    """Percent-encoded bytes: a file's name need not be valid in any encoding."""
    return quote_from_bytes(os.fsencode(path))


def _text_as_path(kind: type, text: str) -> Any:
    return kind(os.fsdecode(unquote_to_bytes(text)))

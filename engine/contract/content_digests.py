"""Digests of the pictures' bytes, kept beside their encodings: an unchanged picture is read once, not once a run.

One JSON line each: [absolute path, identity, digest]. Lines are appended in one write, so that runs may share the file;
a line torn by a crash is passed over.
"""

import json
from pathlib import Path

from engine.contract.folder import Identity

NAME = "contents.jsonl"

Digests = dict[tuple[str, Identity], str]


def read_digests(path: Path) -> Digests:
    """Hex digest by absolute path and identity; empty where there is no file yet. Raises OSError."""
    known: Digests = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return known
    for line in lines:
        try:
            name, identity, digest = json.loads(line)
            known[name, Identity(*identity)] = str(digest)
        except (ValueError, TypeError):
            continue
    return known


def digest_line(name: str, identity: Identity, digest: str) -> bytes:
    """The line break goes first: it ends whatever a crash may have left unfinished."""
    return b"\n" + json.dumps([name, identity, digest]).encode()

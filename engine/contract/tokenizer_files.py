"""Where CLIP's vocabulary is on this machine: a folder, the local Hugging Face cache, or a package that carries it."""

import importlib.util
import os
from pathlib import Path

_FILES = ("vocab.json", "merges.txt")
# Where the same two files lie in the cache of someone who has used SDXL or CLIP before: repository, folder in it.
_REPOSITORIES = (
    ("models--openai--clip-vit-large-patch14", ""),
    ("models--stabilityai--stable-diffusion-xl-base-1.0", "tokenizer"),
    ("models--laion--CLIP-ViT-bigG-14-laion2B-39B-b160k", ""),
)
_PACKAGES = ("open_clip", "clip")
_PACKAGE_FILE = "bpe_simple_vocab_16e6.txt.gz"


class TokenizerError(ValueError):
    """There is no tokenizer where one was looked for. `text` says where, `remedy` what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(f"{text}. {remedy}")
        self.text, self.remedy = text, remedy


def find_tokenizers(folder: Path | None) -> tuple[Path, Path]:
    """For the first and for the second encoder: a folder that holds `vocab.json` and `merges.txt`, or OpenAI's gzipped
    list of merges in a package.

    `folder` holds one pair of files for both encoders, or the subfolders `tokenizer` and `tokenizer_2`, or `tokenizer`
    alone. Without it: CLIP's from the local Hugging Face cache, else from an installed open_clip or clip package, which
    is not imported. Only looks whether the files are there. Raises TokenizerError.
    """
    if folder is not None:
        return _in_folder(folder)
    found = _in_cache(hub_cache()) or _in_packages()
    if found is None:
        raise TokenizerError(
            "no CLIP tokenizer on this machine",
            "Set model.tokenizer to a folder that holds vocab.json and merges.txt (the `tokenizer` folder of any SDXL "
            "model), or install the package open_clip_torch.",
        )
    return found, found


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetched, by its own variables."""
    environment = os.environ
    if cache := environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE"):
        return _expanded(cache)
    home = environment.get("HF_HOME") or f"{environment.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return _expanded(home) / "hub"


def _expanded(text: str) -> Path:
    path = Path(os.path.expandvars(text))
    try:
        return path.expanduser()
    except RuntimeError:  # ~somebody who has no account here
        return path


def _in_folder(folder: Path) -> tuple[Path, Path]:
    first, second = folder / "tokenizer", folder / "tokenizer_2"
    if not (first.is_dir() and second.is_dir()):
        first = second = first if _is_file(first / "vocab.json") else folder
    for place in (first, second):
        if missing := [name for name in _FILES if not _is_file(place / name)]:
            raise TokenizerError(
                f"no tokenizer in {place}: {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing",
                "Put CLIP's vocab.json and merges.txt there, or leave model.tokenizer empty.",
            )
    return first, second


def _in_cache(cache: Path) -> Path | None:
    for repository, below in _REPOSITORIES:
        snapshots = cache / repository / "snapshots"
        try:
            main = (cache / repository / "refs" / "main").read_text("utf-8").strip()
        except (OSError, ValueError):
            main = ""
        whole = [place for place in snapshots.glob("*") if all(_is_file(place / below / name) for name in _FILES)]
        if whole:
            return max(whole, key=lambda place: (place.name == main, place.stat().st_mtime)) / below
    return None


def _in_packages() -> Path | None:
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if _is_file(file := Path(folder) / _PACKAGE_FILE):
                return file
    return None


def _is_file(path: Path) -> bool:
    """Also where a folder on the way may not be entered."""
    try:
        return path.is_file()
    except PermissionError:
        return False

"""Where CLIP's vocabulary is on this machine: a folder, the base model, the local Hugging Face cache, a package."""

import importlib.util
import os
from pathlib import Path

VOCABULARY, MERGES = "vocab.json", "merges.txt"
BOTH_IN_ONE = "tokenizer.json"  # all that transformers 5 writes
CLIP_REPOSITORY = "openai/clip-vit-large-patch14"
# Where the same files lie in the cache of someone who has used SDXL or CLIP before: repository, folder in it.
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


def find_tokenizers(folder: Path | None, base: Path | None = None) -> tuple[Path, Path]:
    """For the first and for the second encoder: a folder that holds `vocab.json` and `merges.txt`, or `tokenizer.json`,
    or else OpenAI's gzipped list of merges in a package.

    `folder` holds one tokenizer for both encoders, or the subfolders `tokenizer` and `tokenizer_2`, or `tokenizer`
    alone. Without it: from those subfolders of `base`, the base model, if it is a folder; else CLIP's from the local
    Hugging Face cache; else from an installed open_clip or clip package, which is not imported. Only looks whether the
    files are there. Raises TokenizerError.
    """
    if folder is not None:
        return _in_folder(folder)
    if found := _in_base(base):
        return found
    clip = _in_cache(hub_cache()) or _in_packages()
    if clip is None:
        raise TokenizerError(
            "no CLIP tokenizer on this machine",
            "Set model.tokenizer to the `tokenizer` folder of any SDXL model, run `pip install 'aozora-tui[offline]'`, "
            "or let model.fetch_tokenizer load it from the Hugging Face hub.",
        )
    return clip, clip


def may_fetch(folder: Path | None, base: Path | None) -> bool:
    """Whether the hub comes next: neither the profile, the base model nor the local Hugging Face cache has one."""
    return folder is None and _in_base(base) is None and _in_cache(hub_cache()) is None


def has_pair(folder: Path) -> bool:
    """Whether `vocab.json` and `merges.txt` are there, which then go before `tokenizer.json`."""
    return _is_file(folder / VOCABULARY) and _is_file(folder / MERGES)


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
        first = second = first if _is_whole(first) or _is_file(first / VOCABULARY) else folder
    for place in (first, second):
        if not _is_whole(place):
            missing = [name for name in (VOCABULARY, MERGES) if not _is_file(place / name)]
            raise TokenizerError(
                f"no tokenizer in {place}: {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing",
                f"Put CLIP's {VOCABULARY} and {MERGES} there, or its {BOTH_IN_ONE}, or leave model.tokenizer empty.",
            )
    return first, second


def _in_base(base: Path | None) -> tuple[Path, Path] | None:
    if base is None:
        return None
    found = [place for place in (base / "tokenizer", base / "tokenizer_2") if _is_whole(place)]
    return (found[0], found[-1]) if found else None


def _in_cache(cache: Path) -> Path | None:
    for repository, below in _REPOSITORIES:
        snapshots = cache / repository / "snapshots"
        try:
            main = (cache / repository / "refs" / "main").read_text("utf-8").strip()
        except (OSError, ValueError):
            main = ""
        whole = [place for place in snapshots.glob("*") if _is_whole(place / below)]
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


def _is_whole(folder: Path) -> bool:
    return has_pair(folder) or _is_file(folder / BOTH_IN_ONE)


def _is_file(path: Path) -> bool:
    """Also where a folder on the way may not be entered."""
    try:
        return path.is_file()
    except PermissionError:
        return False

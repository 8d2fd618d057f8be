"""From what the scan found to items: the digest of each file's bytes, remembered between runs, and the cache keys."""

from collections.abc import Callable, Sequence
from hashlib import blake2b, file_digest
from pathlib import Path

from engine.contract.atomic import Interrupted, never
from engine.contract.buckets import Placement
from engine.contract.content_digests import digest_line, read_digests
from engine.contract.folder import Identity, Picture, Skipped, identify, shown
from engine.contract.items import Encoding, Item, latents_key, text_key, why_unplaceable
from engine.contract.picture_file import damage
from engine.data.cache import writing


class ContentHashes:
    """Digests of files, those of unchanged ones from the file in which they are kept. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = read_digests(path)

    def digest(self, path: Path, identity: Identity) -> str:
        """Digest of the bytes of `path`, whose identity now is `identity`. Raises OSError if the picture cannot be
        read, CacheError if the digest cannot be kept."""
        name = str(path.absolute())
        known = self._known.get((name, identity))
        if known is not None:
            return known
        with path.open("rb") as file:
            digest = file_digest(file, lambda: blake2b(digest_size=20)).hexdigest()
        if identify(path) == identity:
            self._known[name, identity] = digest
            line = digest_line(name, identity, digest)
            with writing(self._path.parent), self._path.open("ab", buffering=0) as file:
                file.write(line)
        return digest


def make_items(
    pictures: Sequence[Picture],
    placements: Sequence[Placement],
    chunks: Sequence[int],
    encoding: Encoding,
    hashes: ContentHashes,
    *,
    should_stop: Callable[[], bool] = never,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """One item for each picture, its placement and its caption's length in chunks, in their order, and the pictures
    that cannot be used. Reads every picture that `hashes` does not know. Raises Interrupted; what is hashed by then
    stays hashed."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    for done, (picture, placement, length) in enumerate(zip(pictures, placements, chunks, strict=True)):
        if should_stop():
            raise Interrupted("reading the pictures was stopped")
        progress(done, len(pictures))
        content = _content(picture, placement, hashes)
        if isinstance(content, Skipped):
            skipped.append(content)
            continue
        items.append(
            Item(
                name=shown(picture.path),
                path=picture.path,
                identity=picture.identity,
                caption=picture.caption,
                original=(picture.width, picture.height),
                placement=placement,
                repeats=picture.repeats,
                latents_key=latents_key(content, placement, encoding),
                text_key=text_key(picture.caption, length, encoding),
                chunks=length,
            )
        )
    progress(len(pictures), len(pictures))
    return tuple(items), tuple(skipped)


def _content(picture: Picture, placement: Placement, hashes: ContentHashes) -> str | Skipped:
    if why := why_unplaceable(picture, placement):
        return Skipped(picture.path, why)
    try:
        # The same before and after: the digest belongs to the picture whose size and shape were read.
        unchanged = identify(picture.path) == picture.identity
        digest = hashes.digest(picture.path, picture.identity) if unchanged else ""
        unchanged = unchanged and identify(picture.path) == picture.identity
    except OSError as error:
        return Skipped(picture.path, damage(error))
    return digest if unchanged else Skipped(picture.path, "has changed since the folder was scanned")

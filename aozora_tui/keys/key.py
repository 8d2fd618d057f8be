"""One entry of the tables."""

from dataclasses import dataclass

from aozora_tui.key_names import shown


@dataclass(frozen=True)
class Key:
    """`rank` orders the key bar, most useful first; 0 keeps a key out of it. `in_palette` is off for plain movement."""

    id: str
    keys: str
    action: str
    label: str
    help: str
    rank: int = 0
    in_palette: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The keys as a person reads them."""
        return tuple(shown(key) for key in self.keys.split(","))


def move(id: str, keys: str, action: str, label: str, help: str) -> Key:
    return Key(id, keys, action, label, help, in_palette=False)

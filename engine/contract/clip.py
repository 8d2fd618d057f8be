"""What is CLIP's own, whatever file it comes in."""

CLIP_TOKENS = 49408


def end_of_text(rows: int) -> int:
    """The id that ends a text, by the rows of an encoder's token embeddings. It is the last of CLIP's vocabulary, also
    where tokens were added behind it, and the last there is in a smaller one."""
    return min(CLIP_TOKENS, rows) - 1

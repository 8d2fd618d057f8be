"""How runs that are drawn together are told apart: by colour, and without it by sign or letter."""

# One column wide in every terminal of ours; filled ones first, for they are seen best.
SIGNS = ("●", "▲", "■", "◆", "○", "△", "□", "◇")
LETTERS = ("A", "B", "C", "D", "E", "F", "G", "H")  # where only ASCII arrives
RUN_STYLES = tuple(f"run-{place}" for place in range(len(SIGNS)))
# Okabe and Ito's palette (2008), for the colour-blind, as near as the 256 colours have it and readable on dark and on
# light ground: orange, sky blue, bluish green, reddish purple, yellow, vermilion, blue, and the text's own.
DARK = ("#ffaf00", "#5fafff", "#00af87", "#d787af", "#ffff5f", "#d75f00", "#0087d7", "#d0d0d0")
LIGHT = ("#af5f00", "#0087d7", "#00875f", "#af5f87", "#87875f", "#d75f00", "#005faf", "#303030")


def css(widget: str, component: str) -> str:
    """The rules that colour the component classes `component--run-0` and so on of a widget."""
    rules = []
    for style, dark, light in zip(RUN_STYLES, DARK, LIGHT, strict=True):
        rules.append(f"{widget} > .{component}--{style} {{ color: {dark}; }}")
        rules.append(f"{widget}:light > .{component}--{style} {{ color: {light}; }}")
        rules.append(f"{widget}:ansi > .{component}--{style} {{ color: ansi_default; }}")
    return "\n".join(rules)


def classes(component: str) -> set[str]:
    """Those component classes."""
    return {f"{component}--{style}" for style in RUN_STYLES}

"""How runs that are drawn together are told apart: by colour, and without it by sign or letter."""

# One column wide in every terminal of ours; filled ones first, for they are seen best.
SIGNS = ("●", "▲", "■", "◆", "○", "△", "□", "◇")
LETTERS = ("A", "B", "C", "D", "E", "F", "G", "H")  # where only ASCII arrives
MOST_RUNS = len(SIGNS)
RUN_STYLES = tuple(f"run-{place}" for place in range(len(SIGNS)))
# After Okabe and Ito's palette for the colour-blind (2008): orange, sky blue, bluish green, reddish purple, yellow,
# vermilion, blue, and the text's own; of the 256 colours those near them that differ most for those without red or
# green cones, on dark and on light ground.
DARK = ("#ffaf00", "#5fd7ff", "#00875f", "#d75faf", "#ffff87", "#d75f00", "#0087ff", "#ffffff")
LIGHT = ("#af8700", "#0087ff", "#005f5f", "#d75faf", "#87875f", "#af0000", "#0000af", "#000000")


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

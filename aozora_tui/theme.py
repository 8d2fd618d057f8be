"""The colours that the app has of its own."""

from textual.theme import Theme

# Colours of the 256-colour cube, so that the theme looks the same over SSH, where truecolor is seldom announced.
THEME = Theme(
    name="aozora",
    primary="#5fafff",
    secondary="#87afd7",
    accent="#87d7ff",
    success="#87d787",
    warning="#ffaf5f",
    error="#ff8787",
    foreground="#d0d0d0",
    background="#121212",
    surface="#1c1c1c",
    panel="#262626",
    dark=True,
    variables={
        "block-cursor-background": "#005f87",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#303030",
        "block-cursor-blurred-foreground": "#d0d0d0",
        "input-cursor-background": "#d0d0d0",
        "input-cursor-foreground": "#121212",
        "scrollbar": "#444444",
        "scrollbar-hover": "#5f87af",
        "scrollbar-active": "#5fafff",
        "scrollbar-background": "#121212",
        "scrollbar-background-hover": "#121212",
        "scrollbar-background-active": "#121212",
        "border": "#5f87af",
        "border-blurred": "#444444",
    },
)

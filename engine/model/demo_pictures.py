"""The demo's pictures: coloured shapes on coloured grounds, the same pixels every time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SUPERSAMPLED = 4

_COLOURS = {
    "red": (214, 48, 49),
    "orange": (240, 140, 32),
    "yellow": (250, 208, 60),
    "green": (44, 160, 84),
    "teal": (20, 150, 158),
    "blue": (40, 92, 200),
    "purple": (126, 66, 178),
    "pink": (242, 132, 172),
    "white": (244, 244, 240),
    "black": (28, 28, 36),
}
_SHAPES = ("circle", "square", "triangle", "star", "diamond", "hexagon", "ring", "cross")
# Square, wide and tall; the third is 16:9 to the nearest pixel.
_SIZES = ((256, 256), (320, 192), (341, 192), (192, 320), (288, 224), (224, 288), (256, 256), (384, 160))
_COUNT = 40

Point = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """`figures` are one or two (colour, shape), side by side in a wide picture, one above the other in a tall one."""

    size: tuple[int, int]
    ground: str
    figures: tuple[tuple[str, str], ...]

    @property
    def caption(self) -> str:
        figures = " and ".join(f"{_with_article(colour)} {shape}" for colour, shape in self.figures)
        return f"{figures} on {_with_article(self.ground)} ground"

    @property
    def name(self) -> str:
        return "-".join(part for figure in self.figures for part in figure) + f"-on-{self.ground}"


def _scenes() -> tuple[Scene, ...]:
    colours = list(_COLOURS)
    scenes = []
    for index in range(_COUNT):
        # Strides that share no factor with a list's length visit all of it; the ground is never the figure's colour.
        colour = colours[index * 3 % 10]
        others = [name for name in colours if name != colour]
        ground = others[(index * 4 + index // 10) % 9]
        figures = [(colour, _SHAPES[(index + index // 8) % 8])]
        if index % 5 == 4:
            second = [name for name in others if name != ground][index * 3 % 8]
            figures.append((second, _SHAPES[(index * 5 + 3) % 8]))
        scenes.append(Scene(_SIZES[index % len(_SIZES)], ground, tuple(figures)))
    return tuple(scenes)


SCENES = _scenes()


def draw(scene: Scene) -> Image.Image:
    """RGB, of the scene's size; smooth edges, a light falling from above and a soft shadow."""
    width, height = (side * SUPERSAMPLED for side in scene.size)
    picture = _shaded(_COLOURS[scene.ground], (width, height), 0.10)
    for place, (colour, shape) in enumerate(scene.figures):
        centre, radius = _place(width, height, place, len(scene.figures))
        mask = _mask(shape, (width, height), centre, radius)
        shadow = ImageChops.offset(mask, int(radius * 0.05), int(radius * 0.10))
        shadow = shadow.filter(ImageFilter.GaussianBlur(radius * 0.08)).point([value * 0.3 for value in range(256)])
        picture.paste((0, 0, 0), mask=shadow)
        picture.paste(_shaded(_COLOURS[colour], (width, height), 0.16), mask=mask)
    return picture.resize(scene.size, Image.Resampling.LANCZOS)


def _with_article(colour: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour}"


def _place(width: int, height: int, place: int, count: int) -> tuple[Point, float]:
    if count == 1:
        return (width / 2, height / 2), min(width, height) * 0.36
    share = (place + 0.5) / count
    if width >= height:
        return (width * share, height / 2), min(width / count, height) * 0.36
    return (width / 2, height * share), min(width, height / count) * 0.36


def _shaded(colour: tuple[int, int, int], size: tuple[int, int], strength: float) -> Image.Image:
    """The colour, lighter at the top and darker at the bottom by `strength`."""
    column = (1, size[1])  # a row has one colour: one column is computed, and repeated
    light, dark = (
        Image.new("RGB", column, (*(round(part + (towards - part) * strength) for part in colour),))
        for towards in (255, 0)
    )
    return Image.composite(dark, light, Image.linear_gradient("L").resize(column)).resize(
        size, Image.Resampling.NEAREST
    )


def _mask(shape: str, size: tuple[int, int], centre: Point, radius: float) -> Image.Image:
    mask = Image.new("L", size, 0)
    pen = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        pen.circle(centre, radius, fill=255)
        if shape == "ring":
            pen.circle(centre, radius * 0.55, fill=0)
    elif shape == "cross":
        (x, y), arm = centre, radius * 0.32
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=255)
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=255)
    elif shape == "star":
        pen.polygon(_corners(centre, [radius * 1.1, radius * 0.45] * 5, turned=-90), fill=255)
    elif shape == "triangle":
        lowered = (centre[0], centre[1] + radius * 0.2)  # its bounding box centred, not its centroid
        pen.polygon(_corners(lowered, [radius * 1.1] * 3, turned=-90), fill=255)
    else:
        corners, turned = {"square": (4, 45), "diamond": (4, 0), "hexagon": (6, 0)}[shape]
        pen.polygon(_corners(centre, [radius * 1.1] * corners, turned=turned), fill=255)
    return mask


def _corners(centre: Point, radii: list[float], *, turned: float) -> list[Point]:
    angles = [math.radians(turned + 360 * index / len(radii)) for index in range(len(radii))]
    return [
        (centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle))
        for radius, angle in zip(radii, angles, strict=True)
    ]

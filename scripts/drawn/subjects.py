"""What is painted on the drawn cards: creatures, things, spells. Coordinates are the brush's, about -1 to 1."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from drawn.brush import Brush, Colour, hsv


def _figure(brush: Brush, rng: np.random.Generator) -> None:
    """Someone standing: robed or armoured, hooded, horned or helmeted, with a staff, a blade or an orb."""
    wide = rng.uniform(0.3, 0.55)
    if rng.random() < 0.35:
        for side in (-1, 1):
            tip = rng.uniform(-1.1, -0.3)
            brush.polygon(
                [(0, -0.35), (side * 0.9, tip), (side * 1.15, tip + 0.5), (side * 0.7, 0.3), (0, 0.15)],
                brush.second,
                smooth=2,
            )
    brush.polygon([(-0.16, -0.45), (0.16, -0.45), (wide, 0.95), (-wide, 0.95)], brush.body, smooth=1)
    brush.polygon([(-0.1, -0.4), (0.1, -0.4), (0.12, 0.9), (-0.12, 0.9)], brush.second)
    hand = (rng.uniform(0.35, 0.7), rng.uniform(-0.5, 0.2))
    weapon = rng.integers(4)
    if weapon == 0:
        brush.limb([(hand[0], 0.95), (hand[0] * 0.95, -0.95)], 0.05, 0.04, brush.metal * 0.6)
        brush.blob(hand[0] * 0.95, -0.98, 0.1, 0.1, brush.glow)
        brush.light_up(hand[0] * 0.95, -0.98, 0.22, brush.glow)
    elif weapon == 1:
        brush.limb([hand, (hand[0] + rng.uniform(-0.1, 0.5), hand[1] - 0.85)], 0.1, 0.01, brush.metal)
    elif weapon == 2:
        brush.light_up(*hand, 0.3, brush.glow)
        brush.blob(*hand, 0.12, 0.12, brush.glow)
    else:
        brush.polygon(
            [
                (hand[0] - 0.2, hand[1] - 0.25),
                (hand[0] + 0.2, hand[1] - 0.25),
                (hand[0] + 0.2, hand[1] + 0.15),
                (hand[0], hand[1] + 0.45),
                (hand[0] - 0.2, hand[1] + 0.15),
            ],
            brush.metal,
        )
    brush.limb([(0.1, -0.35), (0.3, -0.1), hand], 0.17, 0.1, brush.body)
    brush.limb([(-0.1, -0.35), (-0.32, 0.0), (-0.3 * rng.uniform(0.3, 1.4), 0.3)], 0.17, 0.1, brush.body)
    brush.blob(0, -0.6, 0.13, 0.17, brush.skin)
    head = rng.integers(4)
    if head == 0:
        brush.polygon(
            [(-0.2, -0.4), (-0.18, -0.75), (0.02, -0.92), (0.18, -0.7), (0.1, -0.72), (-0.06, -0.66), (-0.1, -0.42)],
            brush.body * 0.8,
            smooth=2,
        )
    elif head == 1:
        for side in (-1, 1):
            brush.limb([(side * 0.08, -0.74), (side * 0.25, -0.85), (side * 0.22, -1.1)], 0.08, 0.01, brush.metal * 0.7)
    elif head == 2:
        brush.polygon(
            [(-0.16, -0.58), (-0.15, -0.78), (0, -0.9), (0.15, -0.78), (0.16, -0.58), (0.05, -0.66), (-0.05, -0.66)],
            brush.metal,
        )
    else:
        brush.polygon(
            [(-0.18, -0.3), (-0.17, -0.75), (0, -0.82), (0.17, -0.75), (0.18, -0.3), (0.1, -0.62), (-0.1, -0.62)],
            brush.second,
            smooth=1,
        )


def _dragon(brush: Brush, rng: np.random.Generator) -> None:
    lift = rng.uniform(-0.3, 0.2)
    for side, share in ((1, 0.75), (-1, 1.0)):
        tip = (side * rng.uniform(0.8, 1.2), -0.95 + lift)
        brush.polygon(
            [
                (0, -0.1),
                (side * 0.35, -0.7),
                tip,
                (side * 1.0, -0.2),
                (side * 0.7, 0.0),
                (side * 0.5, 0.25),
                (side * 0.2, 0.15),
            ],
            brush.second * share,
        )
        brush.limb([(0, -0.1), (side * 0.35, -0.65), tip], 0.1, 0.02, brush.body * share)
    brush.limb([(0, 0.35), (-0.5, 0.7), (-0.9, 0.55), (-1.2, 0.8)], 0.3, 0.02, brush.body)
    for leg in (-0.15, 0.25):
        brush.limb([(leg, 0.2), (leg + 0.2, 0.55), (leg + 0.05, 0.85)], 0.22, 0.08, brush.body * 0.85)
    brush.blob(0.05, 0.15, 0.34, 0.3, brush.body)
    neck = [(0.1, 0.05), (0.45, -0.2), (0.3, -0.6), (0.62, -0.78)]
    brush.limb(neck, 0.32, 0.15, brush.body)
    brush.polygon([(0.5, -0.9), (0.72, -0.92), (1.02, -0.72), (0.75, -0.65), (0.55, -0.68)], brush.body, smooth=1)
    for horn in (0.5, 0.6):
        brush.limb([(horn, -0.88), (horn - 0.15, -1.0), (horn - 0.3, -1.02)], 0.07, 0.01, brush.metal)
    if rng.random() < 0.5:
        for i in range(6):
            brush.light_up(1.05 + 0.14 * i, -0.7 + 0.07 * i, 0.08 + 0.04 * i, brush.glow, 0.8)


def _beast(brush: Brush, rng: np.random.Generator) -> None:
    deep, high = rng.uniform(0.22, 0.42), rng.uniform(0.45, 0.8)
    for leg in (-0.55, -0.35, 0.35, 0.55):
        knee = leg + rng.uniform(-0.12, 0.12)
        brush.limb(
            [(leg, 0.1), (knee, 0.1 + high * 0.5), (leg + rng.uniform(-0.1, 0.15), 0.1 + high)],
            deep * 0.6,
            0.1,
            brush.body * 0.8,
        )
    brush.limb(
        [(-0.65, -0.05), (-0.95, rng.uniform(-0.5, 0.3)), (-1.1, rng.uniform(-0.6, 0.6))], 0.14, 0.03, brush.body
    )
    brush.polygon(
        [
            (-0.7, -0.15),
            (-0.2, -0.2 - deep),
            (0.4, -0.25 - deep),
            (0.75, -0.1),
            (0.6, 0.25),
            (0, 0.15 + deep * 0.5),
            (-0.6, 0.25),
        ],
        brush.body,
        smooth=2,
    )
    if rng.random() < 0.5:
        brush.polygon([(0.3, -0.35 - deep), (0.75, -0.5), (0.9, 0.0), (0.6, 0.35), (0.35, 0.1)], brush.second, smooth=2)
    head = (0.85, rng.uniform(-0.5, 0.05))
    brush.blob(*head, 0.24, 0.19, brush.body)
    brush.polygon(
        [(head[0] + 0.1, head[1] - 0.08), (head[0] + 0.42, head[1] + 0.06), (head[0] + 0.12, head[1] + 0.16)],
        brush.body,
        smooth=1,
    )
    for i in range(rng.integers(1, 4)):
        brush.limb(
            [(head[0] - 0.1 + 0.1 * i, head[1] - 0.15), (head[0] - 0.05 + 0.16 * i, head[1] - 0.5 - 0.1 * i)],
            0.09,
            0.01,
            brush.metal,
        )
    if rng.random() < 0.5:
        for x in np.linspace(-0.6, 0.4, rng.integers(4, 8)):
            brush.polygon(
                [(x - 0.08, -0.2 - deep * 0.8), (x, -0.6 - deep), (x + 0.08, -0.2 - deep * 0.8)], brush.second
            )
    brush.light_up(head[0] + 0.08, head[1] - 0.05, 0.035, brush.glow, 1.0)


def _bird(brush: Brush, rng: np.random.Generator) -> None:
    for side in (-1, 1):
        up = rng.uniform(-0.9, -0.1)
        feathers = [(side * 0.1, -0.1), (side * 0.5, up - 0.1), (side * 1.15, up)]
        feathers += [(side * (1.05 - 0.16 * i), up + 0.3 + 0.09 * i + 0.08 * (i % 2)) for i in range(6)]
        brush.polygon([*feathers, (side * 0.08, 0.25)], brush.body)
        brush.polygon(
            [(side * 0.1, -0.08), (side * 0.5, up), (side * 0.9, up + 0.12), (side * 0.3, 0.12)], brush.second
        )
    brush.polygon([(-0.14, 0.3), (0.14, 0.3), (0.3, 0.95), (0, 0.75), (-0.3, 0.95)], brush.second)
    brush.polygon([(-0.17, -0.15), (0.17, -0.15), (0.14, 0.4), (0, 0.55), (-0.14, 0.4)], brush.body, smooth=2)
    brush.blob(0, -0.28, 0.14, 0.16, brush.second)
    brush.polygon([(0.08, -0.34), (0.34, -0.24), (0.08, -0.2)], brush.metal)


def _serpent(brush: Brush, rng: np.random.Generator) -> None:
    coils = rng.uniform(1.2, 2.6)
    ts = np.linspace(0, 1, 26)
    path = [(0.75 * math.sin(coils * 2 * math.pi * t + 1) * (1 - 0.3 * t), 0.95 - 1.75 * t) for t in ts]
    brush.limb(path, rng.uniform(0.34, 0.5), 0.16, brush.body)
    for x, y in path[2:-2:2]:
        brush.blob(x, y, 0.06, 0.04, brush.second)
    x, y = path[-1]
    brush.polygon(
        [(x - 0.1, y - 0.2), (x + 0.2, y - 0.2), (x + 0.48, y + 0.02), (x + 0.15, y + 0.12), (x - 0.12, y + 0.08)],
        brush.body,
        smooth=1,
    )
    brush.light_up(x + 0.15, y - 0.06, 0.04, brush.glow, 1.0)
    if rng.random() < 0.5:
        brush.polygon(
            [(x - 0.1, y - 0.1), (x - 0.4, y - 0.35), (x - 0.35, y + 0.1), (x - 0.45, y + 0.3), (x - 0.05, y + 0.15)],
            brush.second,
        )


def _golem(brush: Brush, rng: np.random.Generator) -> None:
    def block(x: float, y: float, wide: float, tall: float, colour: Colour) -> None:
        corners = [(-wide, -tall), (wide, -tall), (wide * 0.9, tall), (-wide * 0.9, tall)]
        brush.polygon(
            [(x + a + rng.uniform(-0.04, 0.04), y + b + rng.uniform(-0.04, 0.04)) for a, b in corners], colour
        )

    for side in (-1, 1):
        block(side * 0.25, 0.7, 0.17, 0.28, brush.body * 0.8)
        block(side * rng.uniform(0.6, 0.75), -0.1, 0.16, 0.3, brush.body * 0.9)
        block(side * rng.uniform(0.6, 0.8), rng.uniform(0.25, 0.5), 0.2, 0.22, brush.body)
        block(side * 0.55, -0.45, 0.25, 0.17, brush.second)
    block(0, -0.05, 0.45, 0.48, brush.body)
    block(0, -0.68, 0.2, 0.18, brush.second)
    for eye in (-0.08, 0.08):
        brush.light_up(eye, -0.68, 0.03, brush.glow, 1.0)
    brush.light_up(0, -0.1, rng.uniform(0.08, 0.2), brush.glow)


def _treefolk(brush: Brush, rng: np.random.Generator) -> None:
    bark = brush.body * 0.6
    for x in np.linspace(-0.4, 0.4, 5):
        brush.limb([(x * 0.4, 0.5), (x, 0.8), (x * 1.9, 1.0)], 0.22, 0.03, bark)
    brush.polygon([(-0.2, -0.5), (0.2, -0.5), (0.28, 0.7), (-0.28, 0.7)], bark, smooth=1)
    for _ in range(7):
        side = rng.uniform(-1, 1)
        brush.limb(
            [(0, -0.3), (side * 0.4, -0.55), (side * rng.uniform(0.6, 1.0), rng.uniform(-1, -0.4))], 0.16, 0.04, bark
        )
    for _ in range(rng.integers(9, 16)):
        brush.blob(
            rng.uniform(-0.9, 0.9),
            rng.uniform(-1.05, -0.45),
            rng.uniform(0.14, 0.3),
            rng.uniform(0.1, 0.22),
            brush.second,
        )
    for eye in (-0.1, 0.1):
        brush.light_up(eye, -0.1, 0.035, brush.glow, 1.0)


def _spider(brush: Brush, rng: np.random.Generator) -> None:
    for side in (-1, 1):
        for i in range(4):
            knee = (side * rng.uniform(0.5, 0.8), -0.75 + 0.3 * i)
            brush.limb([(0, 0), knee, (side * rng.uniform(0.8, 1.15), 0.05 + 0.28 * i)], 0.1, 0.02, brush.body * 0.8)
    brush.blob(-0.1, 0.28, 0.42, rng.uniform(0.35, 0.5), brush.body)
    for i in range(3):
        brush.blob(-0.1, 0.1 + 0.2 * i, 0.1, 0.06, brush.second)
    brush.blob(0.05, -0.2, 0.22, 0.2, brush.body)
    for i in range(4):
        brush.light_up(-0.03 + 0.06 * i, -0.27, 0.022, brush.glow, 1.0)


def _kraken(brush: Brush, rng: np.random.Generator) -> None:
    for i in range(rng.integers(6, 10)):
        angle = math.pi * (0.05 + 0.1 * i) + rng.uniform(-0.1, 0.1)
        bend = rng.uniform(-0.5, 0.5)
        end = (math.cos(angle) * 1.15, math.sin(angle) * 1.0)
        brush.limb(
            [(0, 0.1), (end[0] * 0.5 + bend * 0.4, end[1] * 0.5), (end[0], end[1] * 0.8), (end[0] + bend, end[1])],
            0.24,
            0.03,
            brush.body * rng.uniform(0.7, 1),
        )
    brush.polygon(
        [(-0.38, 0.25), (-0.45, -0.35), (-0.1, -0.95), (0.1, -0.95), (0.45, -0.35), (0.38, 0.25)], brush.body, smooth=2
    )
    for side in (-1, 1):
        brush.blob(side * 0.2, 0.0, 0.1, 0.08, brush.glow)
        brush.blob(side * 0.2, 0.0, 0.03, 0.08, brush.glow * 0.1)


def _horror(brush: Brush, rng: np.random.Generator) -> None:
    rays = rng.integers(9, 16)
    rim = [
        (math.cos(a) * r, math.sin(a) * r)
        for a, r in zip(np.linspace(0, 2 * math.pi, rays, endpoint=False), rng.uniform(0.45, 1.0, rays), strict=True)
    ]
    brush.polygon(rim, brush.body * 0.7, smooth=2)
    for _ in range(rng.integers(3, 8)):
        x, y, radius = rng.uniform(-0.4, 0.4), rng.uniform(-0.45, 0.35), rng.uniform(0.06, 0.17)
        brush.blob(x, y, radius, radius, hsv(0.13, 0.2, 0.95))
        brush.blob(x, y, radius * 0.5, radius * 0.5, brush.glow * 0.7)
        brush.blob(x, y, radius * 0.2, radius * 0.4, brush.glow * 0.05)
    mouth = rng.uniform(0.3, 0.5)
    brush.blob(0, mouth, 0.35, 0.12, brush.body * 0.15)
    for x in np.linspace(-0.28, 0.28, 7):
        brush.polygon([(x - 0.04, mouth - 0.1), (x + 0.04, mouth - 0.1), (x, mouth + 0.05)], hsv(0.12, 0.1, 0.95))


def _skull(brush: Brush, rng: np.random.Generator) -> None:
    bone = hsv(0.12, rng.uniform(0.05, 0.35), 0.9)
    brush.polygon([(-0.35, 0.2), (0.35, 0.2), (0.28, 0.75), (-0.28, 0.75)], bone, smooth=1)
    brush.blob(0, -0.2, 0.62, 0.62, bone)
    for side in (-1, 1):
        brush.blob(side * 0.26, -0.12, 0.17, 0.2, bone * 0.12)
        if rng.random() < 0.7:
            brush.light_up(side * 0.26, -0.12, 0.07, brush.glow)
    brush.polygon([(0, 0.1), (0.09, 0.3), (-0.09, 0.3)], bone * 0.15)
    for x in np.linspace(-0.22, 0.22, 5):
        brush.polygon([(x - 0.012, 0.45), (x + 0.012, 0.45), (x + 0.012, 0.74), (x - 0.012, 0.74)], bone * 0.3)
    if rng.random() < 0.5:
        brush.polygon(
            [(-0.6, -0.5), (-0.7, -1.0), (-0.35, -0.75), (0, -1.1), (0.35, -0.75), (0.7, -1.0), (0.6, -0.5)],
            brush.metal,
        )


def _blade(brush: Brush, rng: np.random.Generator) -> None:
    wide, curve = rng.uniform(0.07, 0.2), rng.uniform(-0.3, 0.3)
    brush.polygon(
        [(-wide, 0.4), (curve - wide, -0.6), (curve * 2, -1.05), (curve + wide, -0.6), (wide, 0.4)], brush.metal
    )
    brush.polygon([(-wide * 0.2, 0.4), (curve * 1.5, -0.85), (wide * 0.2, 0.4)], brush.metal * 0.6)
    guard = rng.uniform(0.25, 0.5)
    brush.polygon([(-guard, 0.3), (guard, 0.3), (guard * 0.8, 0.45), (-guard * 0.8, 0.45)], brush.second, smooth=1)
    brush.limb([(0, 0.4), (0, 0.95)], 0.13, 0.1, brush.body * 0.6)
    brush.blob(0, 0.98, 0.11, 0.11, brush.glow)


def _vessel(brush: Brush, rng: np.random.Generator) -> None:
    """A chalice, an urn, a flask: whatever its outline turns out to be."""
    heights = np.linspace(-0.85, 0.9, 9)
    widths = rng.uniform(0.1, 0.6, 9)
    widths[-1], widths[0] = rng.uniform(0.35, 0.55), rng.uniform(0.15, 0.5)
    outline = [(w, h) for w, h in zip(widths, heights, strict=True)]
    brush.polygon([*outline, *((-w, h) for w, h in reversed(outline))], brush.metal, smooth=2)
    for i in rng.integers(2, 7, 2):
        brush.polygon(
            [
                (-widths[i] * 0.85, heights[i]),
                (widths[i] * 0.85, heights[i]),
                (widths[i] * 0.8, heights[i] + 0.09),
                (-widths[i] * 0.8, heights[i] + 0.09),
            ],
            brush.second,
        )
    brush.light_up(0, -0.9, rng.uniform(0.15, 0.4), brush.glow)


def _orb(brush: Brush, rng: np.random.Generator) -> None:
    brush.light_up(0, 0, 0.9, brush.glow, 0.6)
    brush.polygon([(-0.5, 0.5), (0.5, 0.5), (0.3, 0.75), (0.45, 0.98), (-0.45, 0.98), (-0.3, 0.75)], brush.metal)
    brush.blob(0, 0, 0.6, 0.6, brush.body)
    for _ in range(rng.integers(2, 6)):
        ring, lean = rng.uniform(0.7, 1.1), rng.uniform(0.1, 0.4)
        angles = np.linspace(0, 1.6 * math.pi, 16) + rng.uniform(0, 6)
        brush.limb([(ring * math.cos(a), ring * lean * math.sin(a)) for a in angles], 0.04, 0.02, brush.metal)
    brush.light_up(-0.2, -0.25, 0.12, hsv(0, 0, 1), 0.8)


def _book(brush: Brush, rng: np.random.Generator) -> None:
    page = hsv(0.11, 0.25, 0.92)
    for side in (-1, 1):
        brush.polygon([(0, -0.35), (side * 0.95, -0.55), (side * 1.0, 0.5), (0, 0.65)], brush.body)
        brush.polygon([(0, -0.3), (side * 0.88, -0.48), (side * 0.92, 0.42), (0, 0.58)], page)
        for i in range(6):
            brush.limb(
                [(side * 0.12, -0.12 + 0.11 * i), (side * rng.uniform(0.5, 0.8), -0.22 + 0.11 * i)],
                0.03,
                0.03,
                page * 0.4,
            )
    brush.light_up(0, -0.4, rng.uniform(0.25, 0.6), brush.glow, 0.8)


def _shield(brush: Brush, rng: np.random.Generator) -> None:
    outline = [(-0.7, -0.8), (0, -0.95), (0.7, -0.8), (0.72, 0.0), (0.4, 0.65), (0, 1.0), (-0.4, 0.65), (-0.72, 0.0)]
    brush.polygon(outline, brush.metal, smooth=1)
    brush.polygon([(x * 0.84, y * 0.84) for x, y in outline], brush.body, smooth=1)
    points = rng.integers(3, 9)
    star = [
        (math.sin(math.pi * i / points) * r, -math.cos(math.pi * i / points) * r)
        for i in range(2 * points)
        for r in ((0.55, 0.22)[i % 2],)
    ]
    brush.polygon(star, brush.second)
    brush.blob(0, 0, 0.13, 0.13, brush.metal)


def _ship(brush: Brush, rng: np.random.Generator) -> None:
    for x in np.linspace(-0.5, 0.5, rng.integers(1, 4)):
        tall = rng.uniform(0.9, 1.15)
        brush.limb([(x, 0.5), (x, 0.4 - tall)], 0.06, 0.04, brush.body * 0.5)
        full = rng.uniform(0.2, 0.42)
        brush.polygon(
            [
                (x - full, 0.35),
                (x - full * 0.8, 0.45 - tall),
                (x + full * 0.6, 0.45 - tall),
                (x + full * 1.2, 0.0),
                (x + full, 0.35),
            ],
            brush.second,
            smooth=1,
        )
    brush.polygon(
        [(-1.05, 0.3), (-0.75, 0.85), (0.65, 0.85), (1.15, 0.2), (0.8, 0.45), (-0.7, 0.45)], brush.body, smooth=1
    )


def _portal(brush: Brush, rng: np.random.Generator) -> None:
    brush.light_up(0, 0, 0.7, brush.glow, 0.8)
    for turn in range(rng.integers(2, 5)):
        angles = np.linspace(0, rng.uniform(2, 4.5) * math.pi, 36) + turn * 1.7
        radii = np.linspace(0.08, 1.0, 36)
        brush.limb(
            [(r * math.cos(a), r * 0.85 * math.sin(a)) for a, r in zip(angles, radii, strict=True)],
            0.05,
            0.14,
            (brush.body, brush.second)[turn % 2],
        )
    brush.light_up(0, 0, 0.2, hsv(0, 0, 1))


def _lightning(brush: Brush, rng: np.random.Generator) -> None:
    brush.light_up(0, 0, 0.9, brush.glow, 0.5)
    for _ in range(rng.integers(2, 6)):
        path = [(rng.uniform(-0.4, 0.4), -1.2)]
        while path[-1][1] < 1.0:
            path.append((path[-1][0] + rng.uniform(-0.35, 0.35), path[-1][1] + rng.uniform(0.15, 0.4)))
        for wide, colour in ((0.16, brush.glow), (0.06, hsv(0, 0, 1))):
            for start, end in itertools.pairwise(path):
                brush.limb([start, end], wide, wide * 0.9, colour, glows=True)
    brush.light_up(*path[-1], 0.4, hsv(0, 0, 1), 0.8)


def _fire(brush: Brush, rng: np.random.Generator) -> None:
    hue = rng.choice((0.03, 0.08, 0.55, 0.33, 0.85))
    brush.light_up(0, 0.2, 0.9, hsv(hue, 0.8, 1), 0.7)
    for layer in range(4):
        colour = hsv(hue + 0.035 * layer, 0.95 - 0.2 * layer, 1.0) * 1.3
        inner = 1 - 0.2 * layer
        for x in rng.uniform(-0.8, 0.8, 6 - layer) * inner:
            tall, wide = rng.uniform(0.6, 1.8) * inner, rng.uniform(0.12, 0.3)
            brush.polygon(
                [
                    (x - wide, 0.9),
                    (x - wide * 0.8, 0.4),
                    (x + rng.uniform(-0.2, 0.2), 0.9 - tall),
                    (x + wide * 0.9, 0.45),
                    (x + wide, 0.9),
                ],
                colour,
                smooth=2,
                glows=True,
            )


def _crystals(brush: Brush, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(5, 12)):
        lean, tall, wide, x = (
            rng.uniform(-0.6, 0.6),
            rng.uniform(0.6, 1.7),
            rng.uniform(0.08, 0.2),
            rng.uniform(-0.6, 0.6),
        )
        colour = (brush.body, brush.second)[rng.integers(2)] * rng.uniform(0.7, 1.2)
        top = (x + lean, 0.9 - tall)
        brush.polygon([(x - wide, 0.95), (top[0] - wide, top[1] + 0.2), top, (x, 0.95)], colour)
        brush.polygon([(x + wide, 0.95), (top[0] + wide, top[1] + 0.2), top, (x, 0.95)], colour * 0.65)
    brush.light_up(0, 0.2, 0.5, brush.glow, 0.4)


def _castle(brush: Brush, rng: np.random.Generator) -> None:
    stone = brush.body * 0.5 + brush.light.horizon * 0.3
    for x in rng.uniform(-0.8, 0.8, rng.integers(3, 7)):
        wide, top = rng.uniform(0.1, 0.2), rng.uniform(-0.9, -0.1)
        brush.polygon(
            [(x - wide, 0.9), (x - wide, top), (x + wide, top), (x + wide, 0.9)], stone * rng.uniform(0.75, 1.1)
        )
        brush.polygon([(x - wide * 1.2, top), (x, top - rng.uniform(0.2, 0.55)), (x + wide * 1.2, top)], brush.second)
        brush.light_up(x, top + 0.25, 0.03, brush.glow, 1.0)
    brush.polygon([(-0.9, 0.95), (-0.85, 0.3), (0.85, 0.3), (0.9, 0.95)], stone)
    brush.polygon([(-0.15, 0.95), (-0.15, 0.6), (0, 0.45), (0.15, 0.6), (0.15, 0.95)], stone * 0.2)


def _runes(brush: Brush, rng: np.random.Generator) -> None:
    """A circle of signs in the air."""
    brush.light_up(0, 0, 0.8, brush.glow, 0.5)
    for radius in rng.uniform(0.35, 1.0, rng.integers(2, 4)):
        angles = np.linspace(0, 2 * math.pi, 30)
        brush.limb([(radius * math.cos(a), radius * math.sin(a)) for a in angles], 0.05, 0.05, brush.glow, glows=True)
        for angle in np.linspace(0, 2 * math.pi, rng.integers(4, 10), endpoint=False):
            x, y = radius * math.cos(angle), radius * math.sin(angle)
            for _ in range(3):
                brush.limb(
                    [
                        (x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.1, 0.1)),
                        (x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.1, 0.1)),
                    ],
                    0.04,
                    0.03,
                    brush.second,
                    glows=True,
                )
    sides = rng.integers(3, 8)
    corners = [(0.6 * math.cos(2 * math.pi * i / sides), 0.6 * math.sin(2 * math.pi * i / sides)) for i in range(sides)]
    for i, corner in enumerate(corners):
        brush.limb([corner, corners[(i + sides // 2) % sides]], 0.04, 0.04, brush.glow)


SUBJECTS: dict[str, Callable[[Brush, np.random.Generator], None]] = {
    "figure": _figure,
    "dragon": _dragon,
    "beast": _beast,
    "bird": _bird,
    "serpent": _serpent,
    "golem": _golem,
    "treefolk": _treefolk,
    "spider": _spider,
    "kraken": _kraken,
    "horror": _horror,
    "skull": _skull,
    "blade": _blade,
    "vessel": _vessel,
    "orb": _orb,
    "book": _book,
    "shield": _shield,
    "ship": _ship,
    "portal": _portal,
    "lightning": _lightning,
    "fire": _fire,
    "crystals": _crystals,
    "castle": _castle,
    "runes": _runes,
}

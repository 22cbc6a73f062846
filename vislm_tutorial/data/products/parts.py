"""What products are made of: each part one path of lines and Bezier curves, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .world import KINDS, MEASURES

DARK = 0.6  # a dark part is the colour times this
CURVE_STEPS = 8  # straight pieces that a Bezier curve is measured by

Point = tuple[Tensor, Tensor]  # x from the middle to the right, y from the ground up: (B,) mm


@dataclass(frozen=True)
class Part:
    """One path, drawn with a round pen of `radius` (mm) in the colour times `tone`.

    `path` starts with one point; each further entry is one point (a line) or three (a cubic Bezier
    curve's two handles and its end). A closed path is filled too, an open one is a stroke only.
    """

    name: str
    tone: float
    path: tuple[tuple[Point, ...], ...]
    radius: Tensor | float
    closed: bool = True

    def points(self) -> Tensor:
        """The path as corners of straight pieces: (B, S, 2) in millimetres."""
        (last,), found = self.path[0], [self.path[0][0]]
        for segment in self.path[1:]:
            if len(segment) == 1:
                found.append(segment[0])
            else:
                steps = range(1, CURVE_STEPS + 1)
                found += [on_curve((last, *segment), i / CURVE_STEPS) for i in steps]
            last = segment[-1]
        return torch.stack([torch.stack(point, dim=-1) for point in found], dim=-2)

    def box(self) -> Tensor:
        """Left, bottom, right, top with the pen's width: (B, 4) in millimetres."""
        points, radius = self.points(), torch.as_tensor(self.radius).reshape(-1, 1)
        return torch.cat((points.amin(dim=1) - radius, points.amax(dim=1) + radius), dim=1)


def on_curve(curve: Sequence[Point], t: float) -> Point:
    """The point at t in [0, 1] of a cubic Bezier curve given by four points."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    return tuple(sum(w * p[axis] for w, p in zip(weights, curve, strict=True)) for axis in (0, 1))


def _polygon(name: str, tone: float, radius, corners: Sequence[Point]) -> Part:
    return Part(name, tone, tuple((corner,) for corner in corners), radius)


def _rounded_box(name: str, tone: float, radius, left, bottom, right, top) -> Part:
    """A box whose outer edges, pen included, lie at the four given places."""
    left, bottom, right, top = left + radius, bottom + radius, right - radius, top - radius
    corners = ((left, bottom), (right, bottom), (right, top), (left, top))
    return _polygon(name, tone, radius, corners)


def _mug(height, width, handle_height, handle_depth) -> list[Part]:
    zero, pen = 0 * height, 5.0
    left = -(width + handle_depth) / 2  # body and handle together are centred
    wall, out = left + width - 8, left + width + handle_depth - pen
    middle, reach = 0.54 * height, handle_height / 2 - pen
    upper, lower = middle + reach, middle - reach
    turn, bend = out - 0.55 * handle_depth, 0.55  # where the handle leaves the horizontal
    handle = (
        ((wall, upper),),
        ((turn, upper),),
        (
            (turn + bend * (out - turn), upper),
            (out, middle + bend * reach),
            (out, middle),
        ),
        (
            (out, middle - bend * reach),
            (turn + bend * (out - turn), lower),
            (turn, lower),
        ),
        ((wall, lower),),
    )
    return [
        Part("handle", DARK, handle, pen, closed=False),
        _rounded_box("body", 1.0, 7.0, left, zero, left + width, height),
        _rounded_box("rim", DARK, 3.5, left, height - 9, left + width, height),
    ]


def _chair(seat_height, seat_depth, back_height, leg_width) -> list[Part]:
    zero, pen, thick = 0 * seat_height, 8.0, 62.0
    rear, front = -seat_depth / 2, seat_depth / 2
    under, lean, splay = seat_height - thick / 2, 0.16 * back_height, 34.0
    rung, top = 0.36 * seat_height, seat_height + back_height
    leg = ((rear + 20, under), (rear + 20 - splay, pen + zero))
    rear_leg = [(x + pen, y) for x, y in leg] + [(x + leg_width - pen, y) for x, y in leg[::-1]]
    pen_back = 22.0
    back = (
        (rear + pen_back, under),
        (rear + pen_back - lean, top - pen_back),
        (rear + pen_back - lean + 10, top - pen_back),
        (rear + pen_back + 26, under),
    )
    rung_ends = (((rear + 20 + leg_width / 2, rung),), ((front - 30 - leg_width / 2, rung),))
    return [
        Part("rung", DARK, rung_ends, 12.0, closed=False),
        _polygon("rear_leg", DARK, pen, rear_leg),
        _rounded_box("front_leg", DARK, pen, front - 24 - leg_width, zero, front - 24, under),
        _polygon("back", 1.0, pen_back, back),
        _rounded_box("seat", 1.0, 24.0, rear, seat_height - thick, front, seat_height),
    ]


def _trapezoid(name: str, tone: float, radius: float, bottom, top, low, high) -> Part:
    """Centred, of these widths at the heights `low` and `high`; the pen stays inside."""
    half_bottom, half_top = bottom / 2 - radius, top / 2 - radius
    low, high = low + radius, high - radius
    corners = ((-half_bottom, low), (half_bottom, low), (half_top, high), (-half_top, high))
    return _polygon(name, tone, radius, corners)


def _lamp(height, shade_width, shade_height, shade_top_width, base_width) -> list[Part]:
    zero, edge = 0 * height, height - shade_height
    trim = 16.0  # height of the shade's dark lower edge
    above = shade_width + (shade_top_width - shade_width) * trim / shade_height
    return [
        _rounded_box("stem", DARK, 2.0, zero - 9, zero + 10, zero + 9, edge + 20),
        _trapezoid("base", DARK, 8.0, base_width, 0.72 * base_width, zero, zero + 30),
        _trapezoid("shade", 1.0, 6.0, shade_width, shade_top_width, edge, height),
        _trapezoid("trim", DARK, 6.0, shade_width, above, edge, edge + trim),
    ]


def _sneaker(length, collar_height, toe_height, sole_thickness) -> list[Part]:
    zero, floor, toe = 0 * length, 0.8 * sole_thickness, sole_thickness + toe_height
    rise, drop = collar_height - floor, collar_height - toe
    heel, pen = -0.485 * length, 4.0
    collar, tongue = -0.46 * length, -0.1 * length
    cap, tip = 0.26 * length, 0.485 * length
    instep = (
        (tongue, collar_height - pen),
        (tongue + 0.04 * length, collar_height - 0.55 * drop - pen),
        (cap - 0.14 * length, toe - pen + 0.04 * drop),
        (cap, toe - pen),
    )
    nose = (
        (cap + 0.13 * length, toe - pen),
        (tip - pen, floor + 0.72 * toe_height),
        (tip - pen, floor),
    )
    mouth = (
        (collar + 0.06 * length, collar_height - 0.22 * rise),
        (tongue - 0.1 * length, collar_height - 0.22 * rise),
        instep[0],
    )
    back = (
        (heel, floor + 0.35 * rise),
        (collar + 0.03 * length, floor + 0.6 * rise),
        (collar, collar_height - pen),
    )
    upper = (((heel + pen, floor),), back, mouth, instep[1:], nose)
    toe_cap = (((cap, floor),), ((cap, toe - pen),), nose)
    parts = [Part("upper", 1.0, upper, pen), Part("toe", DARK, toe_cap, pen)]
    for i, t in enumerate((0.28, 0.5, 0.72)):
        x, y = on_curve(instep, t)
        lace = (((x, y),), ((x - 20, y - 14),))
        parts.append(Part(f"lace_{i + 1}", DARK, lace, pen, closed=False))
    sole_pen = 0.4 * sole_thickness
    sole = _rounded_box("sole", DARK, sole_pen, -length / 2, zero, length / 2, sole_thickness)
    return [*parts, sole]


_BUILDERS = dict(zip(KINDS, (_mug, _chair, _lamp, _sneaker), strict=True))


def parts(kind: str, measures: Tensor) -> list[Part]:
    """The parts of B products of one kind, the rearmost first; measures (B, M) in millimetres."""
    expected = len(MEASURES[kind])
    if measures.ndim != 2 or measures.shape[1] != expected:
        raise ValueError(
            f"measures has shape {tuple(measures.shape)}; a {kind} needs (B, {expected})."
        )
    return _BUILDERS[kind](*measures.unbind(dim=1))

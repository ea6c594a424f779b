"""Stacks of sheets in space: the renderer against one ray a pixel, and what must be seen from where."""

from __future__ import annotations

import math

import numpy as np
import pytest

from teramind_eval.report.sheets import (
    GROUND,
    Sheets,
    box_edges,
    mosaic,
    pixels_per_um,
    place,
    render,
    rotation,
)

SIZE = (60, 80)


def stack(n: int = 4, rows: int = 9, columns: int = 12) -> Sheets:
    pixels = np.random.default_rng(n).integers(0, 256, (n, rows, columns, 4)).astype(np.uint8)
    return Sheets(pixels, np.array([0.0, 10.0, 25.0, 60.0])[:n], (45.0, 60.0))


def bilinear(sheet: np.ndarray, y: float, x: float) -> np.ndarray:
    """Premultiplied value at a point in pixels, corners at integers; nothing outside."""
    rows, columns = sheet.shape[:2]
    if not (0 <= y < rows and 0 <= x < columns):
        return np.zeros(4)
    y, x = y - 0.5, x - 0.5
    low_y, low_x = math.floor(y), math.floor(x)
    total = np.zeros(4)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - abs(y - low_y - dy)) * (1 - abs(x - low_x - dx))
            total += weight * sheet[min(max(low_y + dy, 0), rows - 1), min(max(low_x + dx, 0), columns - 1)]
    return total


def by_rays(sheets: Sheets, turn: float, tilt: float) -> np.ndarray:
    """One ray a pixel: where it meets each sheet's plane, nearest sheet last."""
    scale, back = pixels_per_um(sheets, SIZE), np.linalg.inv(rotation(turn, tilt))
    out = np.tile(np.array(GROUND, float), (*SIZE, 1))
    direction = back @ np.array([0.0, 0.0, 1.0])
    for v in range(SIZE[0]):
        for u in range(SIZE[1]):
            start = back @ np.array([(u + 0.5 - SIZE[1] / 2) / scale, (v + 0.5 - SIZE[0] / 2) / scale, 0.0])
            hits = []
            for index, z in enumerate(sheets.depths):
                along = (z - start[2]) / direction[2]
                x, y, _ = start + along * direction
                hits.append((along, index, y, x))
            for _, index, y, x in sorted(hits, reverse=True):
                alpha = sheets.pixels[index, ..., 3:] * sheets.opacity
                sheet = np.concatenate([sheets.pixels[index, ..., :3] * alpha / 255, alpha], axis=-1)
                rows, columns = sheet.shape[:2]
                row, column = (y / sheets.size_um[0] + 0.5) * rows, (x / sheets.size_um[1] + 0.5) * columns
                value = bilinear(sheet, row, column)
                out[v, u] = value[:3] + out[v, u] * (1 - value[3] / 255)
    return out


@pytest.mark.parametrize(("turn", "tilt"), [(0, 0), (35, 20), (-50, 25), (160, -30)])
def test_sheets_are_drawn_as_rays_see_them(monkeypatch: pytest.MonkeyPatch, turn: float, tilt: float) -> None:
    monkeypatch.setattr("teramind_eval.report.sheets.box_edges", lambda *_: [])
    found, wanted = render(stack(), turn, tilt, SIZE).astype(float), by_rays(stack(), turn, tilt)
    off = np.abs(found - wanted).max(axis=-1)
    # Rounding to bytes in each of four layers; at the very rim of a sheet a ray may just miss it.
    assert np.quantile(off, 0.99) < 4
    assert (off > 8).mean() < 0.01
    assert (np.abs(wanted - GROUND).max(axis=-1) > 30).mean() > 0.2


def test_the_nearer_sheet_covers_the_farther() -> None:
    red, green = np.full((8, 8, 4), (255, 0, 0, 255)), np.full((8, 8, 4), (0, 255, 0, 255))
    sheets = Sheets(np.stack([red, green]).astype(np.uint8), np.array([0.0, 30.0]), (60.0, 60.0))
    front, behind = (render(sheets, turn, 0, SIZE)[30, 40] for turn in (0, 180))
    assert front[0] > 200 > 60 > front[1]
    assert behind[1] > 200 > 60 > behind[0]


def test_a_stack_fits_and_edges_on_it_vanishes() -> None:
    sheets = stack()
    for turn in range(0, 360, 30):
        for (u, v), (a, b) in box_edges(sheets, turn, turn / 4, SIZE):
            assert 0 <= min(u, a) <= max(u, a) <= SIZE[1]
            assert 0 <= min(v, b) <= max(v, b) <= SIZE[0]
    assert len(box_edges(sheets, 10, 10, SIZE)) == 12
    assert render(sheets, 90, 0, SIZE).shape == (*SIZE, 3)


def test_long_stacks_are_squeezed_and_said_so() -> None:
    assert stack().squeeze == 1
    long = Sheets(stack().pixels, np.array([0.0, 100.0, 200.0, 700.0]), (45.0, 60.0))
    assert np.ptp(long.depths) == pytest.approx(75)
    assert long.squeeze == pytest.approx(75 / 700)
    assert place(long, 0, 0, SIZE).order == (3, 2, 1, 0)


def test_a_mosaic_holds_every_sheet() -> None:
    sheets = stack(3)
    picture, across = mosaic(sheets)
    for index in range(3):
        y, x = index // across * 9, index % across * 12
        np.testing.assert_array_equal(picture[y : y + 9, x : x + 12], sheets.pixels[index])

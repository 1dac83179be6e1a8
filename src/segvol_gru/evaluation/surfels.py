"""Area of the surface element at a corner of the voxel lattice, for each of 256 neighbourhoods.

A corner of the lattice sees 2 x 2 x 2 voxels. Bit values of its code, by offset (z, y, x) of
the voxel from the corner:

    (-1,-1,-1) 128   (-1,-1,0) 64   (-1,0,-1) 32   (-1,0,0) 16
    ( 0,-1,-1)   8   ( 0,-1,0)  4   ( 0,0,-1)  2   ( 0,0,0)  1

The surface in the cube is that of classic marching cubes with vertices in the middle of edges,
built here from its geometry instead of a table: contours on the six faces are joined to loops,
and every loop is cut into a fan of triangles.

Source: Lorensen and Cline, SIGGRAPH 1987; areas as in
https://github.com/google-deepmind/surface-distance at 1f805ce (re-derived, no table copied).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Edge = tuple[int, int]  # the two corners of the cube that it joins, smaller first

# Corner c of the cube lies at its three bits (z, y, x) and has code value 128 >> c.
CORNERS: FloatArray = np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)], dtype=float)
# Four corners around each face, one step of one axis apart.
FACES = tuple(
    tuple(side * axis + u * first + v * second for u, v in ((0, 0), (0, 1), (1, 1), (1, 0)))
    for axis, first, second in ((4, 2, 1), (2, 4, 1), (1, 4, 2))
    for side in (0, 1)
)


@lru_cache(maxsize=32)
def surfel_areas(spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Area in mm² of the surface element of each code.

    Args:
        spacing_mm: voxel size along axes (0, 1, 2) in mm.

    Returns:
        (256,) float64; entries 0 and 255 are 0. Do not write to it.
    """
    a, b, c = spacing_mm
    stretch = np.array([b * c, a * c, a * b])
    areas = np.array([np.linalg.norm(n * stretch, axis=1).sum() for n in _area_vectors()])
    areas.flags.writeable = False
    return areas


@lru_cache(maxsize=1)
def _area_vectors() -> tuple[FloatArray, ...]:
    """Per code, (triangles, 3) area vectors for unit spacing."""
    return tuple(_triangles(code) for code in range(256))


def _triangles(code: int) -> FloatArray:
    # A crowded cube is drawn as its complement, which settles the faces with two diagonals.
    code = code if code.bit_count() <= 4 else 255 - code
    parts = [np.zeros((0, 3))]
    for loop in _loops(code):
        vertices = np.array([CORNERS[list(edge)].mean(axis=0) for edge in loop])
        fans = [_fan(np.roll(vertices, -apex, axis=0)) for apex in range(len(loop))]
        # Loops of five and six are not flat; the classic table cuts them where most area results.
        parts.append(max(fans, key=lambda fan: round(np.linalg.norm(fan, axis=1).sum(), 9)))
    return np.concatenate(parts)


def _fan(vertices: FloatArray) -> FloatArray:
    """Area vectors of the triangles between the first vertex and each later pair."""
    arms = vertices[1:] - vertices[0]
    return np.cross(arms[:-1], arms[1:]) / 2


def _loops(code: int) -> list[list[Edge]]:
    """Closed contours around the set corners, each a cyclic list of cut edges."""
    links: dict[Edge, list[Edge]] = {}
    for face in FACES:
        for one, other in _contours(face, code):
            links.setdefault(one, []).append(other)
            links.setdefault(other, []).append(one)
    loops = []
    while links:
        here = next(iter(links))
        loop = []
        while here in links:
            loop.append(here)
            onward = [edge for edge in links.pop(here) if edge in links]
            here = onward[0] if onward else loop[0]
        loops.append(loop)
    return loops


def _contours(face: tuple[int, ...], code: int) -> list[tuple[Edge, Edge]]:
    """Pairs of cut edges of one face that a contour joins.

    Where two set corners face each other across the diagonal, each is cut off on its own.
    """
    is_set = [bool(code & 128 >> corner) for corner in face]
    edges = [_edge(face[k], face[(k + 1) % 4]) for k in range(4)]
    cut = [k for k in range(4) if is_set[k] != is_set[(k + 1) % 4]]
    if len(cut) == 2:
        return [(edges[cut[0]], edges[cut[1]])]
    if len(cut) == 4:
        return [(edges[k - 1], edges[k]) for k in range(4) if is_set[k]]
    return []


def _edge(one: int, other: int) -> Edge:
    return (min(one, other), max(one, other))

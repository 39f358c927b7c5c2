"""Improvement of a merging of many boxes by exact solutions of small parts of it, compiled.

A window is one group of boxes and those it would best merge with. Its groups are taken apart into a
few atoms (boxes, parts of groups, whole groups), the best grouping of the atoms is found exactly, and
kept if it takes less time. So groups merge, split and exchange boxes in one step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .exact_merging import best_partition

NONE = -1
MOST_SEED = 2**31 - 2


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def regroup(
    boxes: NDArray[np.int64],
    groups: NDArray[np.int64],
    model: tuple[float, float, float],
    atoms: int,
    work: int,
    seed: int,
) -> NDArray[np.int64]:
    """Regroup boxes window by window while that saves time and the work is not spent.

    Parameters
    ----------
    boxes
        (n, 4): left, top, right, bottom; n >= 1.
    groups
        (n,): a number below n for each box, the same for boxes of one group.
    model
        t_dwell, t_row and t_overhead of eq. 1 of the SPARSE paper, in s.
    atoms
        Most atoms in a window, 3 to 16; its cost grows as 3^atoms.
    work
        Steps, of about a nanosecond, after which no new window is begun.
    seed
        0 visits every group, and again those that changed, until nothing changes. A number from 1 to
        MOST_SEED visits random groups and leaves out random neighbours, until the work is spent.

    Returns
    -------
    NDArray[np.int64]
        (n,): groups that take no more time than those given.
    """
    n = len(boxes)
    first = np.full(n, NONE, np.int64)  # the first box of a group
    after = np.full(n, NONE, np.int64)  # the next box of the same group
    hull = np.empty((n, 4), np.int64)
    for i in range(n - 1, -1, -1):
        _join(i, groups[i], boxes, first, after, hull)
    is_settled = np.zeros(n, np.bool_)
    window = np.empty(atoms, np.int64)
    saved_s = np.empty(n)
    atom_of = np.empty(n, np.int64)
    atom_box = np.empty((atoms, 4), np.int64)
    random = seed
    g, since_change = n - 1, 0
    while since_change <= n and work > 0:
        if seed:
            random = _next_random(random)
            g = random % n
        else:
            g = (g + 1) % n
            since_change += 1
        if first[g] == NONE or is_settled[g]:
            continue
        is_settled[g] = seed == 0
        size, random = _fill_window(g, window, first, hull, saved_s, model, random)
        work -= 6 * n
        # The group itself leaves room for two neighbours and is cut where it does not fit.
        used, count, before_s = 0, 0, 0.0
        while used < size and count < atoms:
            member = window[used]
            room = atoms - count - (min(2, size - 1) if used == 0 else 0)
            if used == 0:
                parts, steps = _take_apart(member, room, boxes, first, after, atom_of, atom_box, model)
                work -= steps
            else:
                parts = _singles(member, room, boxes, first, after, atom_of, atom_box, count)
            count += parts
            before_s += _scan_s(hull[member], model)
            used += 1
        after_s, part = best_partition(atom_box[:count], model)
        work -= 3**count // 2
        if after_s >= before_s * (1 - 1e-12):
            continue
        since_change = 0
        _apply(window[:used], part, boxes, first, after, hull, atom_of, is_settled)
    result = np.empty(n, np.int64)
    for g in range(n):
        i = first[g]
        while i != NONE:
            result[i] = g
            i = after[i]
    return result


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill_window(
    g: int, window: Any, first: Any, hull: Any, saved_s: Any, model: tuple[float, float, float], random: int
) -> tuple[int, int]:
    """Put group g and those that it saves most (or costs least) to merge it with into `window`."""
    window[0] = g
    size = 1
    for other in range(len(first)):
        if first[other] == NONE or other == g:
            continue
        if random:
            random = _next_random(random)
            if random & 1:
                continue
        both = _union(hull[g], hull[other])
        saved_s[other] = _scan_s(hull[g], model) + _scan_s(hull[other], model) - _scan_s(both, model)
        if size < len(window):
            place = size
            size += 1
        elif saved_s[other] > saved_s[window[size - 1]]:
            place = size - 1
        else:
            continue
        while place > 1 and saved_s[window[place - 1]] < saved_s[other]:
            window[place] = window[place - 1]
            place -= 1
        window[place] = other
    return size, random


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _singles(
    g: int, room: int, boxes: Any, first: Any, after: Any, atom_of: Any, atom_box: Any, count: int
) -> int:
    """Make an atom of each box of group g if there is room, else one of the group; return how many."""
    fits, i = 0, first[g]
    while i != NONE:
        fits += 1
        i = after[i]
    is_whole = fits > room
    parts, i = 0, first[g]
    while i != NONE:
        atom = count if is_whole else count + parts
        is_new = parts == 0 or not is_whole
        _put(boxes[i], atom_box, atom, is_new)
        atom_of[i] = atom
        parts += is_new
        i = after[i]
    return parts


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _take_apart(
    g: int,
    room: int,
    boxes: Any,
    first: Any,
    after: Any,
    atom_of: Any,
    atom_box: Any,
    model: tuple[float, float, float],
) -> tuple[int, int]:
    """Cut group g into at most `room` atoms, always where the cut saves most; return them and the steps."""
    count, i = 0, first[g]
    while i != NONE:
        count += 1
        i = after[i]
    members = np.empty(count, np.int64)
    count, i = 0, first[g]
    while i != NONE:
        members[count] = i
        atom_of[i] = 0
        count += 1
        i = after[i]
    cut_s = np.empty(room)
    cut = np.empty((room, 2), np.int64)  # the side of the boxes to look at, and where it cuts
    cut_s[0], cut[0, 0], cut[0, 1] = _best_cut(members, 0, boxes, atom_of, model)
    steps = 60 * count
    parts = 1
    while parts < room:
        best = np.argmin(cut_s[:parts])
        if cut_s[best] == np.inf:
            break
        for i in members:
            if atom_of[i] == best and boxes[i, cut[best, 0]] >= cut[best, 1]:
                atom_of[i] = parts
        parts += 1
        for p in (best, parts - 1):
            cut_s[p], cut[p, 0], cut[p, 1] = _best_cut(members, p, boxes, atom_of, model)
        steps += 60 * count
    is_new = np.ones(parts, np.bool_)
    for i in members:
        p = atom_of[i]
        _put(boxes[i], atom_box, p, is_new[p])
        is_new[p] = False
    return parts, steps


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best_cut(
    members: Any, part: int, boxes: Any, atom_of: Any, model: tuple[float, float, float]
) -> tuple[float, int, int]:
    """Return the time that the best straight cut of a part costs (s), its side and place."""
    count = 0
    inside = np.empty(len(members), np.int64)
    for i in members:
        if atom_of[i] == part:
            inside[count] = i
            count += 1
    best_s, best_side, best_at = np.inf, 0, 0
    behind_s = np.empty(count + 1)
    for side in range(4):
        order = inside[np.argsort(boxes[inside[:count], side])]
        behind = _union(boxes[order[count - 1]], boxes[order[count - 1]])
        for q in range(count - 1, 0, -1):
            behind = _union(behind, boxes[order[q]])
            behind_s[q] = _scan_s(behind, model)
        ahead = _union(boxes[order[0]], boxes[order[0]])
        for q in range(1, count):
            ahead = _union(ahead, boxes[order[q - 1]])
            if boxes[order[q], side] > boxes[order[q - 1], side]:
                time_s = _scan_s(ahead, model) + behind_s[q]
                if time_s < best_s:
                    best_s, best_side, best_at = time_s, side, boxes[order[q], side]
    if count > 1:
        best_s -= _scan_s(_union(ahead, boxes[order[count - 1]]), model)
    return best_s, best_side, best_at


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _apply(
    window: Any, part: Any, boxes: Any, first: Any, after: Any, hull: Any, atom_of: Any, is_settled: Any
) -> None:
    """Replace the groups of a window by the parts its atoms are in."""
    chain = NONE
    for g in window:
        i = first[g]
        first[g] = NONE
        while i != NONE:
            following = after[i]
            after[i] = chain
            chain, i = i, following
    group_of = np.full(len(part), NONE, np.int64)
    free = 0
    while chain != NONE:
        i, chain = chain, after[chain]
        p = part[atom_of[i]]
        if group_of[p] == NONE:
            # There are never more groups than boxes, so that a free number is found.
            while first[free] != NONE:
                free += 1
            group_of[p] = free
            is_settled[free] = False
        _join(i, group_of[p], boxes, first, after, hull)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _join(i: int, g: int, boxes: Any, first: Any, after: Any, hull: Any) -> None:
    """Put box i into group g."""
    _put(boxes[i], hull, g, first[g] == NONE)
    after[i] = first[g]
    first[g] = i


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _put(box: Any, hulls: Any, number: int, is_new: bool) -> None:
    """Extend one of the hulls by a box."""
    both = _union(box, box if is_new else hulls[number])
    for side in range(4):
        hulls[number, side] = both[side]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _union(a: Any, b: Any) -> tuple[int, int, int, int]:
    """Return the bounding box of two boxes."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _scan_s(box: Any, model: tuple[float, float, float]) -> Any:
    """Return the time of one scan by eq. 1."""
    height = box[3] - box[1]
    return (box[2] - box[0]) * height * model[0] + height * model[1] + model[2]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _next_random(state: int) -> int:
    """Return the next of a sequence of 31-bit numbers (Park and Miller's generator)."""
    return state * 48271 % (MOST_SEED + 1)

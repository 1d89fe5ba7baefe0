from __future__ import annotations

from collections.abc import Sequence

#: Most partial placements that are looked at where the memory limit binds.
_BUDGET = 50_000


def place(seconds: Sequence[float], memory: Sequence[int], groups: int, limit: float) -> list[int] | None:
    """Give each load to one of ``groups``, so that the slowest group is fast and none is over ``limit``.

    Largest first to the group that has least (within 4/3 of the optimum: Graham, SIAM J. Appl. Math. 1969). Where that
    breaks the limit, a depth-first search with bounds, largest first as well; it is exhaustive for a dozen loads and
    stops at a fixed number of tries.

    Args:
        seconds: the time of each load.
        memory: the memory of each load.
        groups: number of groups.
        limit: the most memory of a group.

    Returns:
        The group of each load, or None where none was found.
    """
    order = sorted(range(len(seconds)), key=lambda i: (-seconds[i], -memory[i], i))
    greedy = _largest_first(order, seconds, groups)
    held = [0] * groups
    for load, group in enumerate(greedy):
        held[group] += memory[load]
    if max(held) <= limit:
        return greedy
    found = _search(order, seconds, memory, groups, limit)
    if found is None:  # large memory first finds a place where large time first ran out of tries
        found = _search(sorted(order, key=lambda i: -memory[i]), seconds, memory, groups, limit)
    return found


def _largest_first(order: Sequence[int], seconds: Sequence[float], groups: int) -> list[int]:
    owners = [0] * len(order)
    total, count = [0.0] * groups, [0] * groups
    for load in order:
        group = min(range(groups), key=lambda g: (total[g], count[g], g))
        owners[load] = group
        total[group] += seconds[load]
        count[group] += 1
    return owners


def _search(
    order: Sequence[int], seconds: Sequence[float], memory: Sequence[int], groups: int, limit: float
) -> list[int] | None:
    best: tuple[int, ...] | None = None
    best_time = float("inf")
    stack: list[tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]] = [((), (0.0,) * groups, (0,) * groups)]
    for _ in range(_BUDGET):
        if not stack:
            break
        chosen, times, held = stack.pop()
        if max(times) >= best_time:
            continue
        if len(chosen) == len(order):
            best, best_time = chosen, max(times)
            continue
        load = order[len(chosen)]
        fits = {(times[g], held[g]): g for g in reversed(range(groups)) if held[g] + memory[load] <= limit}
        for (time, kept), g in sorted(fits.items(), reverse=True):  # groups alike once; the least on top
            times_now = (*times[:g], time + seconds[load], *times[g + 1 :])
            stack.append(((*chosen, g), times_now, (*held[:g], kept + memory[load], *held[g + 1 :])))
    return None if best is None else [best[order.index(i)] for i in range(len(order))]

from __future__ import annotations

#: Scores held at once, unless told otherwise: 64 MiB in float32.
BUDGET = 1 << 24


def rows_at_once(columns: int, budget: int) -> int:
    """Return how many rows of so many columns stay within a budget of cells; one at least.

    Raises:
        ValueError: the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"'budget' must be at least 1 score (got {budget})")
    return max(1, budget // max(columns, 1))

"""Rows of a table by group, in one sort: a scan per group takes hours with 100,000 groups."""

import numpy as np


def rows_by_group(group: np.ndarray) -> list[np.ndarray]:
    """Lists the rows of each group.

    Args:
        group: N, group of each row.

    Returns:
        Rising rows of each distinct group, groups in sorted order.
    """
    order = np.argsort(group, kind="stable")
    ordered = np.asarray(group)[order]
    return np.split(order, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1) if len(order) else []

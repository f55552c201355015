"""Rows by group equal a scan per group."""

import numpy as np
import pytest

from kryptonite.core.groups import rows_by_group


@pytest.mark.parametrize("size", [0, 1, 50])
def test_rows_by_group_equals_a_scan_per_group(size):
    group = np.random.default_rng(size).integers(0, 9, size)
    found = rows_by_group(group)
    expected = [np.flatnonzero(group == one) for one in np.unique(group)]
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in expected]

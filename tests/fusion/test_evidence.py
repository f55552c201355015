import numpy as np
import pytest

from kryptonite.core.errors import DataError
from kryptonite.fusion.evidence import EVIDENCE, Evidence


def test_evidence_fills_in_comparison_and_acquired_when_missing():
    evidence = Evidence(np.zeros(2), np.array([-1.0, 2.0]), np.array([1.0, -2.0]))
    assert evidence.comparison.tolist() == [0, 0] and evidence.acquired.tolist() == [True, True]
    assert evidence.max_log_odds.tolist() == [1, 2] and evidence.min_log_odds.tolist() == [-1, -2]


def test_evidence_rows_selects_every_field_by_mask_or_index():
    columns = {name: np.arange(3.0) + 10 * n for n, name in enumerate(EVIDENCE)}
    evidence = Evidence.of({**columns, "acquired": np.array([True, False, True])})
    for chosen in (np.array([False, True, True]), np.array([1, 2])):
        part = evidence.rows(chosen)
        assert part.acquired.tolist() == [False, True]
        for name, values in columns.items():
            assert getattr(part, name).tolist() == values[1:].tolist()


@pytest.mark.parametrize("bad", [np.array([np.nan, 0.1]), np.array([0.1])])
def test_evidence_raises_when_shapes_differ_or_values_are_not_finite(bad):
    with pytest.raises(DataError):
        Evidence(bad, np.zeros(2), np.zeros(2))
    with pytest.raises(DataError):
        Evidence(np.zeros(2), np.zeros(2), np.zeros(2), comparison=bad)
    with pytest.raises(DataError, match="acquired"):
        Evidence(np.zeros(2), np.zeros(2), np.zeros(2), acquired=np.ones(3, bool))

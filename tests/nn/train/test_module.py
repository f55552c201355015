"""The branches' common validation: the EER over the whole set, by row."""

import pytest
import torch

from kryptonite.nn.train.datasets import Batch
from kryptonite.nn.train.module import EERModule


class Brightness(EERModule):
    """Scores a crop by its first value."""

    def validation_outputs(self, batch):
        return batch.crop[:, 0, 0, 0], batch.synthetic

    def validation_scores(self, scores, synthetic):
        self.seen = scores.tolist()
        return synthetic.numpy(), scores.numpy()


def batch(rows, values, synthetic):
    crop = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    return Batch(
        crop, torch.zeros(len(rows), dtype=int), torch.tensor(synthetic), torch.tensor(rows)
    )


def test_eer_module_logs_eer_over_all_rows_in_order_when_batches_come_in_another(monkeypatch):
    module, logged = Brightness(), []
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.append((name, value)))
    for expected, values in ((0.0, [3, 4, 1, 2]), (0.5, [1, 4, 2, 3])):
        module.validation_step(batch([2, 3], values[2:], [False, False]), 0)
        module.validation_step(batch([0, 1], values[:2], [True, True]), 1)
        module.on_validation_epoch_end()
        assert module.seen == values
        assert logged.pop() == ("val_eer", pytest.approx(expected))
        assert not logged
    assert not module._outputs  # nothing is kept for the next epoch

"""The shared trainer on a one-parameter problem."""

import json
import math
import shutil

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from kryptonite.core.errors import DataError, MetricError, TrainingError
from kryptonite.nn.train.batches import RankedBatches
from kryptonite.nn.train.config import FitConfig
from kryptonite.nn.train.datasets import Loaders
from kryptonite.nn.train.fit import fit
from kryptonite.nn.train.optim import OptimConfig, build_optimiser

pytestmark = pytest.mark.slow


class Line(pl.LightningModule):
    """Fits y = 3x; val_eer is a tenth of the slope's distance from 3, or a script's value."""

    def __init__(self, script=None):
        super().__init__()
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)
        self.script = script
        self.modes, self.epochs_trained, self.interrupt_at, self.spared = [], 0, None, 0

    def training_step(self, batch, _):
        self.modes.append(self.training)
        x = batch[0]
        return (self.network(x) - 3 * x).square().mean()

    def on_train_epoch_start(self):
        if self.current_epoch == self.interrupt_at:
            if not self.spared:
                raise KeyboardInterrupt
            self.spared -= 1
        self.epochs_trained += 1

    def validation_step(self, batch, _):
        slope = float(self.network.weight.detach())
        self.log(
            "val_eer", self.script(slope) if self.script else abs(slope - 3) / 10, sync_dist=False
        )

    def configure_optimizers(self):
        return build_optimiser(
            [{"params": self.parameters()}], OptimConfig(lr=0.1, weight_decay=0.0), 40
        )


class InOrder(RankedBatches[int]):
    """Sixteen rows in order, four at a time."""

    def count(self):
        return 4

    def draw(self, generator):
        return [[*range(start, start + 4)] for start in range(0, 16, 4)]


def _loaders():
    x = torch.linspace(-1, 1, 16).view(-1, 1)
    return Loaders(
        DataLoader(TensorDataset(x), batch_sampler=InOrder(0)),
        DataLoader(TensorDataset(x), batch_size=16),
    )


def _fit(module, folder, fingerprint="v1", **settings):
    config = FitConfig(**{"epochs": 5, "accelerator": "cpu", "workers": 0, **settings})
    return fit(module, _loaders(), config, 0, folder, fingerprint)


def test_fit_improves_and_keeps_best_weights(tmp_path):
    module = Line()
    result = _fit(module, tmp_path)
    assert result.best_score < result.start_score == pytest.approx(0.3)
    assert abs(float(module.network.weight.detach()) - 3) / 10 == pytest.approx(
        result.best_score, abs=1e-6
    )
    assert not module.training
    assert "val_eer" in (tmp_path / "0" / "csv" / "version_0" / "metrics.csv").read_text()


def test_fit_restores_train_mode_after_every_validation(tmp_path):
    module = Line()
    _fit(module, tmp_path)
    assert len(module.modes) == 20 and all(module.modes)


def test_fit_keeps_initial_weights_when_training_makes_them_worse(tmp_path):
    module = Line(script=lambda slope: min(1.0, 0.1 + abs(slope)))
    result = _fit(module, tmp_path)
    assert result.best_epoch == 0 and result.best_score == result.start_score
    assert float(module.network.weight.detach()) == 0.0


def test_fit_keeps_initial_weights_when_epochs_are_zero(tmp_path):
    module = Line()
    result = _fit(module, tmp_path, epochs=0)
    assert result.best_epoch == 0 and float(module.network.weight.detach()) == 0.0


def _interrupt(folder):
    """Trains until the third epoch and stops there."""
    first = Line()
    first.interrupt_at = 2
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _fit(first, folder)


def test_fit_ends_as_uninterrupted_training_when_resumed(tmp_path):
    whole = Line()
    _fit(whole, tmp_path / "whole")
    _interrupt(tmp_path / "cut")
    second = Line()
    _fit(second, tmp_path / "cut")
    assert second.epochs_trained == 3
    # The first part's log is kept.
    assert len(list((tmp_path / "cut" / "0" / "csv").glob("version_*/metrics.csv"))) == 2
    assert float(second.network.weight.detach()) == pytest.approx(
        float(whole.network.weight.detach()), abs=1e-6
    )


class Recorder(Line):
    """Records what each step of each epoch read and drew."""

    def __init__(self, script=None):
        super().__init__(script)
        self.steps = []

    def training_step(self, batch, number):
        self.steps.append((self.current_epoch, *batch[0].flatten().tolist(), float(torch.rand(()))))
        return super().training_step(batch, number)


@pytest.mark.parametrize(
    "script", [None, lambda slope: 0.2 if slope else 0.1], ids=["all epochs better", "none better"]
)
def test_fit_redraws_every_epoch_and_draws_the_same_when_resumed(tmp_path, script):
    whole = Recorder(script)
    _soup(whole, tmp_path / "whole", epochs=4)
    assert len({step[1:] for step in whole.steps}) == len(whole.steps) == 16
    first, second = Recorder(script), Recorder(script)
    first.interrupt_at = 2
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _soup(first, tmp_path / "cut", epochs=4)
    _soup(second, tmp_path / "cut", epochs=4)
    assert first.steps + second.steps == whole.steps
    assert float(second.network.weight.detach()) == float(whole.network.weight.detach())


def test_fit_starts_over_when_fingerprint_changes(tmp_path):
    _fit(Line(), tmp_path, epochs=1)
    module = Line()
    _fit(module, tmp_path, fingerprint="v2", epochs=1)
    assert module.epochs_trained == 1
    assert json.loads((tmp_path / "start.json").read_text())["version"] == "v2"


def test_fit_stops_early_when_patience_runs_out(tmp_path):
    module = Line(script=lambda slope: 0.5)
    _fit(module, tmp_path, epochs=50, patience=2)
    assert 2 <= module.epochs_trained <= 4


def test_fit_validates_and_keeps_averaged_weights_when_ema_is_on(tmp_path):
    module = Line()
    result = _fit(module, tmp_path, ema_decay=0.9)
    assert abs(float(module.network.weight.detach()) - 3) / 10 == pytest.approx(
        result.best_score, abs=1e-6
    )


def test_fit_raises_metric_error_when_validation_is_not_finite(tmp_path):
    with pytest.raises(MetricError):
        _fit(Line(script=lambda slope: math.nan), tmp_path)


class Draws(RankedBatches[int]):
    """Four batches of four rows out of a hundred, drawn anew for every seed and epoch."""

    def count(self):
        return 4

    def draw(self, generator):
        return generator.integers(0, 100, (4, 4)).tolist()


def _soup(module, folder, **settings):
    x = torch.linspace(-1, 1, 100).view(-1, 1)
    loaders = Loaders(
        DataLoader(TensorDataset(x), batch_sampler=Draws(0)), DataLoader(TensorDataset(x[:1]))
    )
    config = FitConfig(**{"epochs": 3, "accelerator": "cpu", "workers": 0, **settings})
    return fit(module, loaders, config, 0, folder, "v1")


def _parts(folder):
    paths = sorted(folder.glob("*/best.ckpt"))
    return [
        float(torch.load(path, weights_only=True)["state_dict"]["network.weight"]) for path in paths
    ]


def _moved(slope):
    """Scores any trained slope alike, and better than the initial one."""
    return 0.5 if slope else 0.9


def test_fit_averages_trainings_on_different_batches_when_souping(tmp_path):
    module = Line(_moved)
    result = _soup(module, tmp_path, soup=3)
    parts = _parts(tmp_path)
    assert len(set(parts)) == 3 and (result.averaged, result.best_epoch) == (3, 1)
    assert float(module.network.weight.detach()) == pytest.approx(sum(parts) / 3, abs=1e-6)
    alone = Line(_moved)
    _soup(alone, tmp_path / "alone")
    assert float(alone.network.weight.detach()) == parts[0]


def test_fit_keeps_best_part_when_soup_is_worse(tmp_path):
    reference = Line()
    _soup(reference, tmp_path / "reference", soup=2)
    parts = _parts(tmp_path / "reference")
    # Only the parts' own slopes score well, so their mean does not.
    module = Line(
        script=lambda slope: min([0.5 if slope else 0.9, *(abs(slope - part) for part in parts)])
    )
    result = _soup(module, tmp_path / "soup", soup=2)
    assert result.averaged == 1 and result.best_score == 0.0
    assert float(module.network.weight.detach()) in parts


def test_fit_keeps_soup_when_it_is_worse_than_the_best_part_but_not_than_the_parts_on_average(
    tmp_path,
):
    _soup(Line(), tmp_path / "reference", soup=2)
    lucky, other = _parts(tmp_path / "reference")

    scores = {0.0: 0.9, lucky: 0.1, other: 0.3, (lucky + other) / 2: 0.15}

    def script(slope):
        near = [score for known, score in scores.items() if abs(slope - known) < 1e-6]
        return near[0] if near else 0.5

    result = _soup(Line(script=script), tmp_path / "soup", soup=2)
    assert (result.averaged, result.best_score) == (2, pytest.approx(0.15))


def test_fit_leaves_parts_out_of_soup_when_no_better_than_start(tmp_path):
    module = Line(script=lambda slope: 0.1 + abs(slope))
    result = _soup(module, tmp_path, soup=2)
    assert (result.averaged, result.best_epoch, float(module.network.weight.detach())) == (
        1,
        0,
        0.0,
    )


@pytest.mark.parametrize("patience", [5, 1])
def test_fit_ends_as_uninterrupted_soup_when_resumed(tmp_path, patience):
    # A patience of 1 stops every part early.
    settings = {"soup": 2, "epochs": 4, "patience": patience}
    whole = Line(_moved)
    _soup(whole, tmp_path / "whole", **settings)
    assert whole.epochs_trained == (8 if patience == 5 else 4)
    first = Line(_moved)
    first.interrupt_at, first.spared = 1, 1
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _soup(first, tmp_path / "cut", **settings)
    second = Line(_moved)
    result = _soup(second, tmp_path / "cut", **settings)
    assert result.averaged == 2
    assert second.epochs_trained == whole.epochs_trained - first.epochs_trained
    assert float(second.network.weight.detach()) == pytest.approx(
        float(whole.network.weight.detach()), abs=1e-6
    )


def _cut(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("keep", [0, 0.5])
@pytest.mark.parametrize("name", ["0/last.ckpt", "0/best.ckpt", "start.json"])
def test_fit_ends_as_uninterrupted_training_when_a_checkpoint_is_cut(tmp_path, name, keep, caplog):
    whole = Line()
    _fit(whole, tmp_path / "whole")
    _interrupt(tmp_path / "cut")
    _cut(tmp_path / "cut" / name, keep)
    second = Line()
    with caplog.at_level("WARNING"):
        _fit(second, tmp_path / "cut")
    assert f"{name}: damaged; this" in caplog.text
    assert float(second.network.weight.detach()) == float(whole.network.weight.detach())


@pytest.mark.parametrize("name", ["0/ended.json", "0/best.ckpt", "1/ended.json", "1/best.ckpt"])
def test_fit_trains_only_the_damaged_part_again_when_a_soup_is_cut(tmp_path, name, caplog):
    whole = Line(_moved)
    _soup(whole, tmp_path, soup=2)
    _cut(tmp_path / name)
    again = Line(_moved)
    with caplog.at_level("WARNING"):
        _soup(again, tmp_path, soup=2)
    assert f"{name}: damaged" in caplog.text and again.epochs_trained == 3
    assert float(again.network.weight.detach()) == float(whole.network.weight.detach())


@pytest.mark.parametrize("settings", [{"patience": 1}, {"patience": 9}])
@pytest.mark.parametrize("part", ["0", "1"])
def test_fit_adds_no_epoch_when_killed_after_the_last_one(tmp_path, part, settings):
    settings = {"soup": 2, "epochs": 4, **settings}
    whole = Line(_moved)
    _soup(whole, tmp_path, **settings)
    (tmp_path / part / "ended.json").unlink()
    if part == "0":
        shutil.rmtree(tmp_path / "1")
    again = Line(_moved)
    _soup(again, tmp_path, **settings)
    assert again.epochs_trained == (whole.epochs_trained // 2 if part == "0" else 0)
    assert float(again.network.weight.detach()) == float(whole.network.weight.detach())


class Diverging(Line):
    """Its loss is no number at one step of one epoch."""

    def __init__(self, epoch, step):
        super().__init__()
        self.at = epoch, step

    def training_step(self, batch, number):
        loss = super().training_step(batch, number)
        return loss * math.nan if (self.current_epoch, number) == self.at else loss


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.9}])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_fit_names_epoch_and_step_and_resumes_when_training_diverged(tmp_path, step, settings):
    whole = Line()
    _fit(whole, tmp_path / "whole", **settings)
    with pytest.raises(TrainingError, match=rf"in epoch 3, step {step + 1}; .*those of epoch 2"):
        _fit(Diverging(2, step), tmp_path / "cut", **settings)
    for name in ("last.ckpt", "best.ckpt"):
        kept = torch.load(tmp_path / "cut/0" / name, weights_only=True)
        assert kept["epoch"] == 1
        assert all(torch.isfinite(tensor).all() for tensor in kept["state_dict"].values())
    second = Line()
    _fit(second, tmp_path / "cut", **settings)
    assert second.epochs_trained == 3
    assert float(second.network.weight.detach()) == float(whole.network.weight.detach())


def test_fit_says_that_nothing_was_trained_when_first_epoch_diverges(tmp_path):
    with pytest.raises(TrainingError, match=r"epoch 1, step 2; .*the initial ones"):
        _fit(Diverging(0, 1), tmp_path)
    assert not (tmp_path / "0/last.ckpt").exists()


class SpoiltWeights(Line):
    """Its last step of the second epoch leaves a weight that is no number."""

    def optimizer_step(self, epoch, batch_idx, *arguments, **named):
        super().optimizer_step(epoch, batch_idx, *arguments, **named)
        if (epoch, batch_idx) == (1, 3):
            self.network.weight.data.fill_(math.nan)


def test_fit_stops_before_validation_when_the_last_step_spoils_the_weights(tmp_path):
    with pytest.raises(TrainingError, match=r"epoch 2, step 4"):
        _fit(SpoiltWeights(), tmp_path)
    assert torch.load(tmp_path / "0/last.ckpt", weights_only=True)["epoch"] == 0


class Broken(torch.utils.data.Dataset):
    """Its rows cannot be read."""

    def __len__(self):
        return 16

    def __getitem__(self, row):
        raise DataError("crop 5: gone from the cache; run the command again")


@pytest.mark.parametrize("workers", [0, 1])
def test_fit_raises_in_one_line_when_a_reading_process_fails(tmp_path, workers):
    good = _loaders()
    loaders = Loaders(DataLoader(Broken(), batch_sampler=InOrder(0), num_workers=workers), good.val)
    config = FitConfig(epochs=1, accelerator="cpu", workers=workers)
    with pytest.raises(DataError) as caught:
        fit(Line(), loaders, config, 0, tmp_path, "v1")
    assert str(caught.value) == "crop 5: gone from the cache; run the command again"

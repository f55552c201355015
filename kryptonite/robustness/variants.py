"""Ways of training that differ from a run in one respect."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_folder, copy_file
from kryptonite.data.audit.cleaning import DROP, clean_table
from kryptonite.data.audit.mislabel import plant_mislabels
from kryptonite.data.audit.prepare import FINDINGS
from kryptonite.data.layouts import load_images
from kryptonite.data.pairs import load_pairs, save_pairs
from kryptonite.data.table import save_images
from kryptonite.inference.embed import embed_photos
from kryptonite.liveness.config import ProbeConfig
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.config import RunConfig
from kryptonite.runs.data import crop_cache
from kryptonite.runs.origin import check_own_pairs
from kryptonite.runs.run_dir import RunDir

NOISE = (
    0.2,
    0.1,
    0.05,
)  # shares of the bona fide photos that are mislabelled; the first is cleaned
SPOOF_WEIGHT = 0.1  # of the spoof-aware term, for runs without one
FORGERIES = 0.5  # share of forged partners, for runs without any


@dataclass(frozen=True)
class Tables:
    """The images of both splits and the frozen validation pairs."""

    train: pd.DataFrame
    val: pd.DataFrame
    pairs: pd.DataFrame


@dataclass(frozen=True)
class Variant:
    """One way of training.

    Args:
        name: Name of its folder.
        title: The difference in words.
        changes: Maps dotted fields of `RunConfig` to their values here.
        alter: Changes the tables; None leaves the data as it is.
        left_out: The kind of forgery that neither training nor validation holds.
    """

    name: str
    title: str
    changes: dict[str, Any] = field(default_factory=dict)
    alter: Callable[[Tables], Tables] | None = None
    left_out: str = ""


def plan(config: RunConfig, folder: Path) -> list[Variant]:
    """Lists every variant that makes a difference to this run, in the order of training.

    An option that is on in the run is switched off, one that is off is switched on; the title says
    which. Variants that need a trained recognition branch are left out where the run takes its
    recogniser as it comes (`recognition.fit.epochs: 0`), and variants of the detector's training
    where it is a probe.

    Args:
        config: The run's configuration.
        folder: Where the variants' runs will lie.
    """
    trains = config.recognition.fit.epochs > 0
    seeds = {f"{branch}.seed": getattr(config, branch).seed + 1 for branch in _SEEDED}
    found = [Variant("seed", "another seed (what chance alone does)", seeds)]
    if trains:
        now = config.recognition.spoof_weight
        term = Option("spoof-term", "the spoof-aware term", "recognition.spoof_weight")
        found.append(term.toggled(now, SPOOF_WEIGHT))
    probe, what = config.liveness.probe, "forgery augmentation"
    if probe.passes:
        forgeries = Option("forgeries", what, "liveness.probe.forgeries")
        found.append(forgeries.toggled(probe.forgeries, ProbeConfig.forgeries))
    else:
        forgeries = Option("forgeries", what, "liveness.forgeries")
        found.append(forgeries.toggled(config.liveness.forgeries, FORGERIES))
        pairing = Option("pairing", "pairing genuine and synthetic", "liveness.paired")
        found.append(pairing.toggled(config.liveness.paired, True))
    if config.comparison.pairs:
        found.append(
            Variant("comparison", "without the differential detector", {"comparison.pairs": 0})
        )
    if config.comparison.pairs and config.comparison.fit.epochs:
        title = "the differential detector without a backbone of its own"
        found.append(Variant("tuning", title, {"comparison.fit.epochs": 0}))
    root = Path(config.data.root)
    if (root / FINDINGS).exists():
        found.append(Variant("cleaning", "without cleaning", alter=_uncleaned(root)))
    branches = ["recognition", "liveness", *(["comparison"] if config.comparison.pairs else [])]
    fits = {f"{branch}.fit": getattr(config, branch).fit for branch in branches}
    if probe.passes:
        del fits["liveness.fit"]  # a probe has neither epochs nor averages
    fits = {place: fit for place, fit in fits.items() if fit.epochs}
    ema = {f"{place}.ema_decay": 0.0 for place, fit in fits.items() if fit.ema_decay}
    if ema:
        found.append(Variant("ema", "without EMA", ema))
    soup = {f"{place}.soup": 1 for place, fit in fits.items() if fit.soup > 1}
    if soup:
        found.append(Variant("soup", "without soups", soup))
    images = pd.concat([load_images(config.data, split) for split in ("train", "val")])
    for species in sorted(set(images["species"]) - {""}):
        found.append(
            Variant(
                f"unseen-{species}",
                f"{species} left out of training",
                alter=_leave_out(species),
                left_out=species,
            )
        )
    for share in NOISE:
        title = f"{share:.0%} of the genuine photos mislabelled"
        found.append(Variant(_noisy(share), title, alter=_mislabel(share)))
        if share == NOISE[0] and trains:
            title = f"{share:.0%} mislabelled, then cleaned by that run's own recogniser"
            alter = _clean(share, config, RunDir(folder / _noisy(share)))
            found.append(Variant(f"{_noisy(share)}-cleaned", title, alter=alter))
    return found


def prepare_variant(variant: Variant, base: RunConfig, run: RunDir, cache: Path) -> RunConfig:
    """Lays out a variant's tables and gives the configuration that trains it.

    The base run's stages are copied as if this variant had trained them: those that its changes do
    not touch are then skipped.

    Args:
        variant: The way of training.
        base: Configuration of the base run.
        run: Folder of the variant's run.
        cache: Folder of aligned crops.

    Raises:
        DataError: The base run's frozen pairs are damaged.
    """
    config = copy.deepcopy(base)
    config.run, config.cache = str(run.path), str(cache)
    for name, value in variant.changes.items():
        *path, last = name.split(".")
        place = config
        for step in path:
            place = getattr(place, step)
        setattr(place, last, value)
    origin, root = RunDir(Path(base.run)), Path(base.data.root)
    check_own_pairs(origin)
    frozen = load_pairs(origin.pairs, root)
    if variant.alter is not None:
        tables = variant.alter(
            Tables(load_images(base.data, "train"), load_images(base.data, "val"), frozen)
        )
        folder = run.path / "tables"
        save_images(folder / "train.csv", tables.train)
        save_images(folder / "val.csv", tables.val)
        save_pairs(folder / run.pairs.name, tables.pairs, folder)
        config.data.root = str(folder)
    stages = [
        (origin.recognition, run.recognition),
        (origin.liveness, run.liveness),
        (origin.comparison, run.comparison),
    ]
    for done, copied in stages:
        if done.exists() and not copied.exists():
            with atomic_folder(copied) as made:  # half a copy would pass for a whole one
                for file in filter(Path.is_file, done.glob("[!.]*")):  # without checkpoints
                    copy_file(file, made / file.name)
    if not run.pairs.exists() and variant.alter is None:
        save_pairs(run.pairs, frozen, root)
    return config


_SEEDED = ("recognition", "liveness")


@dataclass(frozen=True)
class Option:
    """A setting that a variant switches.

    Args:
        name: Name of the variant.
        what: The option in words.
        path: Dotted field of `RunConfig`.
    """

    name: str
    what: str
    path: str

    def toggled(self, now: Any, on: Any) -> Variant:
        """Gives the variant with the option switched: off where it is on now, else to `on`."""
        if now:
            return Variant(self.name, f"without {self.what}", {self.path: type(on)(0)})
        return Variant(self.name, f"with {self.what}", {self.path: on})


def _noisy(share: float) -> str:
    return f"noise-{round(100 * share):02d}"


def _leave_out(species: str) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        train, val, pairs = (
            table[table["species"] != species].reset_index(drop=True)
            for table in (tables.train, tables.val, tables.pairs)
        )
        if not (pairs["kind"] == "synthetic").any() or not train["is_synthetic"].any():
            raise DataError(f"without {species} no synthetic image is left to train or validate on")
        return Tables(train, val, pairs)

    return alter


def _uncleaned(root: Path) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        findings = pd.read_csv(root / FINDINGS, dtype=str, keep_default_na=False)
        findings["path"] = [os.path.abspath(root / path) for path in findings["path"]]
        first_label = findings.set_index("path")["label"]
        label = tables.train["path"].map(os.path.abspath).map(first_label)
        dropped = findings.loc[findings["action"] == DROP, ["label", "path"]]
        dropped = dropped.assign(split="train", is_synthetic=False, species="")
        train = tables.train.assign(label=label.fillna(tables.train["label"]))
        return Tables(pd.concat([train, dropped], ignore_index=True), tables.val, tables.pairs)

    return alter


def _mislabel(share: float) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        train = tables.train
        label, _ = plant_mislabels(
            train["label"].to_numpy(), train["is_synthetic"].to_numpy(), share, seed=0
        )
        return Tables(train.assign(label=label), tables.val, tables.pairs)

    return alter


def _clean(share: float, config: RunConfig, noisy_run: RunDir) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        noisy = _mislabel(share)(tables)
        recogniser = Recogniser.load(noisy_run.recognition, config.aligner.device)
        paths = list(noisy.train["path"])
        readable, embeddings = embed_photos(recogniser, crop_cache(config), paths)
        usable = noisy.train[readable].reset_index(drop=True)
        return Tables(clean_table(usable, embeddings), noisy.val, noisy.pairs)

    return alter

"""Ways of training that differ from a run in one respect."""

import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.data.audit.cleaning import DROP, clean_table
from kryptonite.data.audit.mislabel import plant_mislabels
from kryptonite.data.audit.prepare import FINDINGS
from kryptonite.data.layouts import load_images
from kryptonite.data.pairs import load_pairs, save_pairs
from kryptonite.data.table import save_images
from kryptonite.inference.pipeline import embed_photos
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import PAIRS, crop_cache

NOISE = (0.2, 0.1, 0.05)  # of the genuine photos; the first is cleaned too
SPOOF_WEIGHT = 0.1  # of the spoof-aware term where a run has none and the variant switches it on
FORGERIES = 0.5  # share of forged partners, likewise


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
        name: Of its folder.
        title: What differs, in words.
        changes: Dotted field of `RunConfig` to its value here.
        alter: Changes the tables; None leaves the data as it is.
        left_out: Kind of forgery that neither training nor validation holds.
    """

    name: str
    title: str
    changes: dict[str, Any] = field(default_factory=dict)
    alter: Callable[[Tables], Tables] | None = None
    left_out: str = ""


def plan(config: RunConfig, folder: Path) -> list[Variant]:
    """Every variant that makes a difference to this run, in the order they must be trained in.

    An option that is on in the run is switched off, one that is off is switched on; the title says which. What needs a trained recognition
    branch is left out where the run takes its recogniser as it comes (`recognition.fit.epochs: 0`).

    Args:
        config: Of the run.
        folder: Where the variants' runs will lie.
    """
    trains = config.recognition.fit.epochs > 0
    found = [
        Variant(
            "seed",
            "another seed (what chance alone does)",
            {
                "recognition.seed": config.recognition.seed + 1,
                "liveness.seed": config.liveness.seed + 1,
            },
        )
    ]
    if trains:
        weight = config.recognition.spoof_weight
        found.append(
            _toggle(
                "spoof-term",
                "the spoof-aware term",
                "recognition.spoof_weight",
                weight,
                SPOOF_WEIGHT,
            )
        )
    found.append(
        _toggle(
            "forgeries",
            "forgery augmentation",
            "kryptonite.liveness.forgeries",
            config.liveness.forgeries,
            FORGERIES,
        )
    )
    found.append(
        _toggle(
            "pairing",
            "pairing genuine and synthetic",
            "liveness.paired",
            config.liveness.paired,
            True,
        )
    )
    if config.comparison.pairs:
        found.append(Variant("comparison", "without the comparer", {"comparison.pairs": 0}))
    if config.comparison.pairs and config.comparison.fit.epochs:
        found.append(
            Variant(
                "tuning", "the comparer without a network of its own", {"comparison.fit.epochs": 0}
            )
        )
    if (Path(config.data.root) / FINDINGS).exists():
        found.append(
            Variant("cleaning", "without cleaning", alter=_uncleaned(Path(config.data.root)))
        )
    branches = ["recognition", "liveness", *(["comparison"] if config.comparison.pairs else [])]
    fits = {
        f"{branch}.fit": getattr(config, branch).fit
        for branch in branches
        if getattr(config, branch).fit.epochs
    }
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
        found.append(
            Variant(
                _noisy(share),
                f"{share:.0%} of the genuine photos mislabelled",
                alter=_mislabel(share),
            )
        )
        if share == NOISE[0] and trains:
            title = f"{share:.0%} mislabelled, then cleaned by that run's own recogniser"
            found.append(
                Variant(
                    f"{_noisy(share)}-cleaned",
                    title,
                    alter=_clean(share, config, folder / _noisy(share)),
                )
            )
    return found


def prepare_variant(variant: Variant, base: RunConfig, run: Path, cache: Path) -> RunConfig:
    """Lays out a variant's tables and gives the configuration that trains it in `run`.

    The stages of the base run are laid in as if this variant had trained them: those that its changes do not touch are then skipped.
    """
    config = copy.deepcopy(base)
    config.run, config.cache = str(run), str(cache)
    for name, value in variant.changes.items():
        *path, last = name.split(".")
        place = config
        for step in path:
            place = getattr(place, step)
        setattr(place, last, value)
    root = Path(base.data.root)
    if variant.alter is not None:
        tables = variant.alter(
            Tables(
                load_images(base.data, "train"),
                load_images(base.data, "val"),
                load_pairs(Path(base.run) / PAIRS, root),
            )
        )
        folder = run / "tables"
        save_images(folder / "train.csv", tables.train)
        save_images(folder / "val.csv", tables.val)
        save_pairs(folder / PAIRS, tables.pairs, folder)
        config.data.root = str(folder)
    for branch in ("recognition", "liveness", "comparison"):
        if (Path(base.run) / branch).exists() and not (run / branch).exists():
            shutil.copytree(
                Path(base.run) / branch, run / branch, ignore=shutil.ignore_patterns("training")
            )
    if not (run / PAIRS).exists() and variant.alter is None:
        save_pairs(run / PAIRS, load_pairs(Path(base.run) / PAIRS, root), root)
    return config


def _toggle(name: str, what: str, field_name: str, now: Any, on: Any) -> Variant:
    return (
        Variant(name, f"without {what}", {field_name: type(on)(0)})
        if now
        else Variant(name, f"with {what}", {field_name: on})
    )


def _noisy(share: float) -> str:
    return f"noise-{round(100 * share):02d}"


def _leave_out(species: str) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        train, val = (
            images[images["species"] != species].reset_index(drop=True)
            for images in (tables.train, tables.val)
        )
        pairs = tables.pairs[tables.pairs["species"] != species].reset_index(drop=True)
        if not (pairs["kind"] == "synthetic").any() or not train["is_synthetic"].any():
            raise DataError(f"without {species} no synthetic image is left to train or validate on")
        return Tables(train, val, pairs)

    return alter


def _uncleaned(root: Path) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        findings = pd.read_csv(root / FINDINGS, dtype=str, keep_default_na=False)
        findings["path"] = [os.path.abspath(root / path) for path in findings["path"]]
        label = tables.train["path"].map(os.path.abspath).map(findings.set_index("path")["label"])
        dropped = findings.loc[findings["action"] == DROP, ["label", "path"]].assign(
            split="train", is_synthetic=False, species=""
        )
        train = tables.train.assign(label=label.fillna(tables.train["label"]))
        return Tables(pd.concat([train, dropped], ignore_index=True), tables.val, tables.pairs)

    return alter


def _mislabel(share: float) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        label, _ = plant_mislabels(
            tables.train["label"].to_numpy(), tables.train["is_synthetic"].to_numpy(), share, seed=0
        )
        return Tables(tables.train.assign(label=label), tables.val, tables.pairs)

    return alter


def _clean(share: float, config: RunConfig, noisy_run: Path) -> Callable[[Tables], Tables]:
    def alter(tables: Tables) -> Tables:
        noisy = _mislabel(share)(tables)
        recogniser = Recogniser.load(noisy_run / "recognition", config.aligner.device)
        readable, embeddings = embed_photos(
            recogniser, crop_cache(config), list(noisy.train["path"])
        )
        return Tables(
            clean_table(noisy.train[readable].reset_index(drop=True), embeddings),
            noisy.val,
            noisy.pairs,
        )

    return alter

"""What a run trains on: tables, aligned crops, frozen validation pairs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.crops import CropTemplate
from kryptonite.core.device import state_device
from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path
from kryptonite.data.layouts import load_images
from kryptonite.data.notes import count
from kryptonite.data.pairs import load_pairs, make_pairs, save_pairs
from kryptonite.data.references import RECORDING
from kryptonite.data.split import alike_in_both, identities_in_both, split_hash
from kryptonite.data.table import refuse_line_breaks
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import CENTRE_CROP, UNREADABLE
from kryptonite.runs.checks import check_images, check_pairs
from kryptonite.runs.config import RunConfig
from kryptonite.runs.origin import own_pairs_changed
from kryptonite.runs.run_dir import RunDir

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """Usable images of both splits, frozen validation pairs, and how to read a crop.

    Args:
        train: Columns of the image table, key and status of the face cache, and source: 0.
        val: The same for the validation split.
        genuine: The same for the genuine photos of both splits of `DataConfig.genuine`, whose
            sources are 1, 2, ….
        all_pairs: Frozen validation pairs.
        val_pairs: Those of them whose images are both usable.
        failures: Per split, and per split of each root of `DataConfig.genuine`, the number of
            images, of unreadable files and of images without a found face.
        split: Hash over who is in which split.
        shared_identities: Identities that are in both splits, sorted; none in a sound split.
        alike_identities: Groups of labels, with some in either split, that are probably one person.
        cache: Aligned crops.
    """

    train: pd.DataFrame
    val: pd.DataFrame
    genuine: pd.DataFrame
    all_pairs: pd.DataFrame
    val_pairs: pd.DataFrame
    failures: dict[str, dict[str, int]]
    split: str
    shared_identities: list[str]
    alike_identities: list[list[str]]
    cache: FaceCache

    def save(self, run: RunDir, root: str) -> None:
        """Writes the frozen pairs, and which image contents were in which split, to a run's folder.

        Args:
            run: The folder.
            root: The data's root, which the pairs' paths are relative to.
        """
        save_pairs(run.pairs, self.all_pairs, root)
        images = pd.concat([self.with_genuine("train"), self.with_genuine("val")])
        with atomic_path(run.images) as temporary:
            columns = ["key", "label", "split", "is_synthetic", "species", RECORDING]
            images[[name for name in columns if name in images]].to_csv(temporary, index=False)

    def with_genuine(self, split: str) -> pd.DataFrame:
        """Returns one split's images of all sources: `train` or `val`."""
        own = {"train": self.train, "val": self.val}[split]
        return pd.concat([own, self.genuine[self.genuine["split"] == split]], ignore_index=True)

    def reader(self, template: CropTemplate) -> Callable[[str], np.ndarray]:
        """Gives the function from cache key to crop, uint8 S×S×3, that training reads by."""
        return partial(self.cache.read, template=template)


def crop_cache(config: RunConfig) -> FaceCache:
    """Opens the cache of the crops that both branches of a run read."""
    templates = [config.recognition.template, config.liveness.template]
    aligner = Aligner(config.aligner, list(dict.fromkeys(templates)))
    state_device("finding faces", aligner.device)
    return FaceCache(Path(config.cache), aligner)


def prepare_training_data(config: RunConfig) -> TrainingData:
    """Loads the tables, aligns what the cache lacks, drops and counts unreadable files.

    Raises:
        DataError: A table is wrong, no usable image is left, or a branch cannot be trained on
            those that are.
    """
    cache = crop_cache(config)
    own = {split: load_images(config.data, split) for split in ("train", "val")}
    refuse_line_breaks(own["val"]["path"])  # before the hours that aligning may take, as this:
    further = _load_genuine(config)
    frames, failures = {}, {}
    for split, images in own.items():
        frames[split], failures[split] = _align(cache, images, 0)
        if frames[split].empty:
            raise DataError(f"{config.data.root}: no readable image in the {split} split")
    val = frames["val"]
    check_images(config, frames["train"], val)
    shared = identities_in_both(frames["train"], val)
    if shared:
        _log.warning(
            "%s: %d of the %d validation identities are also trained on (first %r): validation "
            "figures will flatter the system",
            config.data.root,
            len(shared),
            val["label"].nunique(),
            shared[0],
        )
    alike = alike_in_both(frames["train"], val)
    if alike:
        _log.warning(
            "%s: %s in both splits under labels that differ in leading zeros or case alone (first "
            "%s): validation figures will flatter the system",
            config.data.root,
            count(len(alike), "person is probably", "people are probably"),
            " and ".join(map(repr, alike[0])),
        )
    pairs = _frozen_pairs(config, val)
    usable = pairs["path_a"].isin(val["path"]) & pairs["path_b"].isin(val["path"])
    check_pairs(config, pairs[usable], val)
    genuine = [frames["train"].iloc[:0]]
    for (source, root, split), images in further.items():
        aligned, failures[f"{split} of {root}"] = _align(cache, images, source)
        if aligned["label"].nunique() < 2:
            raise DataError(
                f"{root}: too few readable genuine photos in the {split} split; a root of "
                "data.genuine needs those of two people in each"
            )
        genuine.append(aligned)
    data = TrainingData(
        train=frames["train"],
        val=val,
        genuine=pd.concat(genuine, ignore_index=True),
        all_pairs=pairs,
        val_pairs=pairs[usable].reset_index(drop=True),
        failures=failures,
        split=split_hash(pd.concat(frames.values(), ignore_index=True)),
        shared_identities=shared,
        alike_identities=alike,
        cache=cache,
    )
    _warn_of_shared_photos(data)
    return data


def _load_genuine(config: RunConfig) -> dict[tuple[int, str, str], pd.DataFrame]:
    """Loads the genuine photos of further roots, by number and name of the root and split."""
    tables = {}
    for source, root in enumerate(config.data.genuine, 1):
        for split in ("train", "val"):
            images = load_images(replace(config.data, root=root), split)
            images = images[~images["is_synthetic"]].reset_index(drop=True)
            # Equal labels of two roots are different people.
            tables[source, root, split] = images.assign(label=f"{source}/" + images["label"])
    return tables


def _warn_of_shared_photos(data: TrainingData) -> None:
    """Warns of contents that are in both splits, whatever their roots call them."""
    train, val = data.with_genuine("train"), data.with_genuine("val")
    shared = train[train["key"].isin(val["key"])]
    if len(shared):
        _log.warning(
            "%d training photos are also validation images (first %s): validation figures will "
            "flatter the system",
            len(shared),
            shared["path"].iloc[0],
        )


def _align(
    cache: FaceCache, images: pd.DataFrame, source: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Aligns images; returns the readable ones, and how many failed."""
    faces = cache.ensure(list(images["path"]))
    images = images.assign(
        key=faces["key"].to_numpy(), status=faces["status"].to_numpy(), source=source
    )
    unreadable = images["status"] == UNREADABLE
    failures = {
        "images": len(images),
        "unreadable": int(unreadable.sum()),
        "failure_to_acquire": int((images["status"] == CENTRE_CROP).sum()),
    }
    return images[~unreadable].reset_index(drop=True), failures


def _frozen_pairs(config: RunConfig, val: pd.DataFrame) -> pd.DataFrame:
    """Loads the pairs that `kryptonite prepare` froze, else the run's own, else draws new ones."""
    root, run = Path(config.data.root), RunDir(Path(config.run))
    prepared = root / run.pairs.name
    if prepared.exists():
        pairs = load_pairs(prepared, root)
        if pairs["path_a"].isin(val["path"]).any():
            return pairs
    own = _own_pairs(run, root)
    if own is not None and own["path_a"].isin(val["path"]).any():
        return own
    return make_pairs(val, config.data.pairs)


def _own_pairs(run: RunDir, root: Path) -> pd.DataFrame | None:
    """Loads the run's own pairs; None if there are none, or they are damaged."""
    if not run.pairs.exists():
        return None
    if own_pairs_changed(run):
        _log.warning(
            "%s: not the pairs that %s was fitted on; made again", run.pairs, run.fusion.name
        )
        return None
    try:
        return load_pairs(run.pairs, root)
    except DataError as error:
        _log.warning("%s; made again", error)
        return None

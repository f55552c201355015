"""The whole ablation of a run: train the variants, fill the cells, measure, draw."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from kryptonite.core.files import atomic_path, write_json
from kryptonite.data.protocol import load_protocol
from kryptonite.inference.pipeline import Pipeline
from kryptonite.report.analysis import BASELINE
from kryptonite.report.robustness import write_robustness
from kryptonite.robustness.attacks import ATTACKS, EPSILON
from kryptonite.robustness.cells import Cells, System, places
from kryptonite.robustness.corruptions import CORRUPTIONS
from kryptonite.robustness.table import BASE, ORIGIN, TABLE, Cell, read_ablation, tidy
from kryptonite.robustness.variants import Variant, plan, prepare_variant
from kryptonite.runs.assess import assess, provenance, shortcut_warnings
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import run_experiment


def ablate(
    config: RunConfig,
    pairs_file: Path | str,
    data_root: Path | str,
    cache: Path | str,
    device: str,
    resamples: int,
    severities: tuple[int, ...],
    variants: bool,
) -> pd.DataFrame:
    """Trains what is missing, evaluates every system in every cell, and writes ablation.csv and report.html to `ablation/` in the run.

    Started again after an interruption it goes on where it was: trained variants and filled cells are kept.

    Args:
        config: Of the finished run, `config.run` its folder.
        pairs_file: As `data.protocol.load_protocol`.
        data_root: The folder of the pairs' photos.
        cache: Folder of the crop cache for these photos and for training.
        device: `auto`, `cpu` or `cuda`.
        resamples: Of the bootstrap.
        severities: Of the corruptions and attacks, within `robustness.corruptions.SEVERITIES`.
        variants: Whether to train the variants of `robustness.variants.plan` too.

    Returns:
        The tidy table, columns of `robustness.table.Row`.

    Raises:
        KryptoniteError: The run, the pairs or the images are not what they must be.
    """
    run = Path(config.run)
    folder = run / "ablation"
    pairs = load_protocol(pairs_file, data_root)
    planned = plan(config, folder / "runs") if variants else []
    runs = {BASE: run}
    for number, variant in enumerate(planned, 1):
        print(f"ablate: variant {number} of {len(planned)}: {variant.title}", file=sys.stderr)
        runs[variant.name] = folder / "runs" / variant.name
        run_experiment(prepare_variant(variant, config, runs[variant.name], Path(cache)))

    systems = []
    for name, place in runs.items():
        pipeline = Pipeline.load(place, cache, device)
        systems.append(System(name, pipeline, place, assess(pipeline, place, pairs)))
    table = tidy(_filled(systems, folder, severities), resamples)
    with atomic_path(folder / TABLE) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    write_json(
        folder / ORIGIN,
        _origin(config, systems[0], planned, provenance(run, pairs_file, data_root, resamples)),
    )
    write_robustness(folder / "report.html", read_ablation(folder))
    return table


def _filled(systems: list[System], folder: Path, severities: tuple[int, ...]) -> Iterator[Cell]:
    """Cells one by one, with a bar that tells how long it will take; of variants the chosen system and either branch alone are shown."""
    cells = Cells(systems, folder / "cells")
    for corruption, severity in tqdm(
        places(severities), desc="ablate", unit="cell", file=sys.stderr
    ):
        for system, evidence in cells.each(corruption, severity):
            few = (system.pipeline.chosen, BASELINE, "detector")
            shown = [
                name for name in system.pipeline.verifiers if system.name == BASE or name in few
            ]
            yield Cell(system.name, corruption, severity, system.scored(evidence, shown))


def _origin(
    config: RunConfig, base: System, variants: list[Variant], made: dict[str, Any]
) -> dict[str, Any]:
    described = {name: [each.text, *each.magnitudes] for name, each in CORRUPTIONS.items()}
    described |= {
        name: [text, *(f"{255 * epsilon:.0f}/255" for epsilon in EPSILON)]
        for name, text in ATTACKS.items()
    }
    return {
        "chosen": config.fusion.name,
        "corruptions": described,
        "variants": {
            variant.name: {"title": variant.title, "left_out": variant.left_out}
            for variant in variants
        },
        "counts": {
            "pairs": len(base.assessment.scored.pairs),
            "images": len(base.assessment.scored.images),
        },
        "warnings": [*base.assessment.warnings, *shortcut_warnings(config.run)],
        "provenance": made,
    }

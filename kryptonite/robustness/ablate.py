"""The whole ablation of a run: train the variants, fill the cells, measure, draw."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from kryptonite.core.files import atomic_path, write_json
from kryptonite.report.ablation import BASE, ORIGIN, TABLE, Cell, read_ablation, tidy
from kryptonite.report.analysis import BASELINE
from kryptonite.report.robustness import write_robustness
from kryptonite.robustness.attacks import ATTACKS, EPSILON
from kryptonite.robustness.cells import Cells, System, places
from kryptonite.robustness.corruptions import CORRUPTIONS
from kryptonite.robustness.variants import Variant, plan, prepare_variant
from kryptonite.runs.assess import assess
from kryptonite.runs.config import RunConfig
from kryptonite.runs.load import load
from kryptonite.runs.provenance import provenance, shortcut_warnings
from kryptonite.runs.report import Protocol, load_labelled
from kryptonite.runs.run_dir import RunDir
from kryptonite.runs.stages import train

_log = logging.getLogger(__name__)


def ablate(
    config: RunConfig, protocol: Protocol, severities: tuple[int, ...], variants: bool
) -> pd.DataFrame:
    """Trains what is missing, evaluates every system in every cell, and writes table and page.

    They go to `ablation/` in the run, as ablation.csv and report.html. Called again after an
    interruption, it resumes: trained variants and filled cells are kept.

    Args:
        config: The finished run's configuration; `config.run` is its folder.
        protocol: The pairs to evaluate on.
        severities: Severities of corruptions and attacks, of `robustness.corruptions.SEVERITIES`.
        variants: Whether to train the variants of `robustness.variants.plan` too.

    Returns:
        The tidy table, columns of `report.ablation.Row`.

    Raises:
        KryptoniteError: The run, the pairs or the images are wrong.
    """
    run = RunDir(Path(config.run))
    # Before hours of training variants.
    pairs = load_labelled(run, protocol)
    base = load(run.path, protocol.cache, protocol.device)
    trained = run.ablation / "runs"
    planned = plan(config, trained) if variants else []
    runs = {BASE: run}
    for number, variant in enumerate(planned, 1):
        _log.info("ablate: variant %d of %d: %s", number, len(planned), variant.title)
        runs[variant.name] = RunDir(trained / variant.name)
        train(prepare_variant(variant, config, runs[variant.name], Path(protocol.cache)))

    systems = []
    for name, place in runs.items():
        pipeline = base if name == BASE else load(place.path, protocol.cache, protocol.device)
        systems.append(System(name, pipeline, place, assess(pipeline, place, pairs)))
    table = tidy(_filled(systems, run.ablation, severities), protocol.resamples)
    with atomic_path(run.ablation / TABLE) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    write_json(run.ablation / ORIGIN, _origin(config, systems[0], planned, protocol))
    write_robustness(run.ablation / "report.html", read_ablation(run.ablation))
    return table


def _filled(systems: list[System], folder: Path, severities: tuple[int, ...]) -> Iterator[Cell]:
    """Yields cells one by one behind a progress bar.

    Of variants only the chosen system and either branch alone are measured.
    """
    cells = Cells(systems, folder / "cells")
    bar = tqdm(places(severities), desc="ablate", unit="cell", file=sys.stderr)
    for corruption, severity in bar:
        for system, evidence in cells.each(corruption, severity):
            few = (system.pipeline.chosen, BASELINE, "detector")
            names = system.pipeline.verifiers
            shown = [name for name in names if system.name == BASE or name in few]
            yield Cell(system.name, corruption, severity, system.scored(evidence, shown))


def _origin(
    config: RunConfig, base: System, variants: list[Variant], protocol: Protocol
) -> dict[str, Any]:
    described = {name: [each.text, *each.magnitudes] for name, each in CORRUPTIONS.items()}
    limits = [f"{255 * epsilon:.0f}/255" for epsilon in EPSILON]
    described |= {name: [text, *limits] for name, text in ATTACKS.items()}
    scored = base.assessment.scored
    return {
        "chosen": config.fusion.name,
        "corruptions": described,
        "variants": {
            variant.name: {"title": variant.title, "left_out": variant.left_out}
            for variant in variants
        },
        "counts": {"pairs": len(scored.pairs), "images": len(scored.images)},
        "warnings": [*base.assessment.warnings, *shortcut_warnings(base.run)],
        "provenance": provenance(
            base.run, protocol.pairs_file, protocol.data_root, protocol.resamples
        ),
    }

"""Does a run hold outside its home data? Genuine photos of several sources, several forgeries.

python -m benchmarks.transfer RUN OUT --source NAME=DATA_ROOT [--source …] [--autoencoder FOLDER]
    [--mesh FILE]

For example `--source home=DATA --source wild=WILD --source demo=runs/demo/data-root`. Of every
source up to 60 people with at least two genuine photos are drawn by seed, of its validation split
where it has one; their photos and one forgery of each kind of every photo are written to OUT alike,
as JPEG of one quality. A data set's own `k_` images count as one more kind. Pairs: two genuine
photos of a person, of two people, and a genuine photo with a forgery of *another* photo of the same
person. Nothing is fitted here; the run is scored as it is.

Per source and kind: AUC of the detector and its false alarms on the source's genuine photos, EER
and SPF-EER of recognition alone and of the run's fusion, the gain with a 95% interval from a
bootstrap over identities on the same people, and what is accepted at the stored threshold. Whole
generated faces show nobody, so they have the detector's figures alone. Cells in which the fusion is
worse than recognition alone beyond its interval are marked; the last line names the worst one.

FOLDER holds a latent-diffusion model's autoencoder, FILE MediaPipe's face mesh (see
docs/robustness.md); without them the kinds of forgeries that they make are left out.
"""

import argparse
import sys
from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.transfer_photos import add_options, write_sources
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.files import atomic_path
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.verifier import Verifier
from kryptonite.inference.pipeline import Pipeline
from kryptonite.metrics.bootstrap import PairScores, intervals, pair_draws
from kryptonite.metrics.error_rates import detector_metrics, pair_metrics
from kryptonite.report.transfer import COLUMNS, summary
from kryptonite.runs.load import load
from kryptonite.runs.report import read_transfer

NON_MATED = 400
RESAMPLES = 500


def make_pairs(images: pd.DataFrame) -> pd.DataFrame:
    """Pairs genuine photos with one another and with forgeries of the person's other photos."""
    genuine = images[images["kind"] == ""]
    rows = []
    for label, own in genuine.groupby("label"):
        paths = own["path"].tolist()
        rows += [
            (first, second, label, label, "same", "")
            for number, first in enumerate(paths)
            for second in paths[number + 1 :]
        ]
        forged = images[(images["label"] == label) & (images["kind"] != "")]
        for fake in forged.itertuples():
            for reference in own.loc[own["number"] != fake.number, "path"].head(1):
                rows.append((reference, fake.path, label, label, "synthetic", fake.kind))
    draws = np.random.default_rng(0)
    labels, paths = genuine["label"].to_numpy(), genuine["path"].to_numpy()
    first, second = draws.integers(0, len(labels), (2, 20 * NON_MATED))
    apart = labels[first] != labels[second]
    for a, b in zip(first[apart][:NON_MATED], second[apart][:NON_MATED], strict=True):
        rows.append((paths[a], paths[b], labels[a], labels[b], "different", ""))
    columns = ["path_a", "path_b", "label_a", "label_b", "kind", "species"]
    return pd.DataFrame(rows, columns=columns)


def measure_source(name: str, images: pd.DataFrame, pipeline: Pipeline) -> list[dict]:
    """Scores a source's pairs; gives one row per kind of forgery, with the columns of transfer.csv.

    A kind that no pair shows gets the detector's figures, and NaN for the others.
    """
    pairs = make_pairs(images)
    scored, table = pipeline.extract_pairs(pairs)
    paired = images["path"].isin(pairs[["path_a", "path_b"]].to_numpy().ravel()).to_numpy()
    log_odds = np.empty(len(images), np.float32)
    log_odds[paired] = table.features.log_odds[table.rows(images["path"][paired])]
    if not paired.all():
        further = pipeline.extractor.extract(images["path"][~paired])
        log_odds[~paired] = further.features.log_odds[further.rows(images["path"][~paired])]
    systems = {"alone": pipeline.verifiers["none"], "fused": pipeline.verifier}
    return measure_pairs(name, images.assign(log_odds=log_odds), scored, systems)


def measure_pairs(
    name: str, images: pd.DataFrame, scored: pd.DataFrame, systems: Mapping[str, Verifier]
) -> list[dict]:
    """Measures a source's pairs; gives what `measure_source` gives.

    Args:
        name: Of the source.
        images: Columns kind and log_odds.
        scored: Pairs of `make_pairs` with the columns of `Evidence`.
        systems: Scores them: recognition `alone`, and `fused`.
    """
    evidence = Evidence.of(scored)
    kind, species = (scored[column].to_numpy() for column in ("kind", "species"))
    scores = {which: verifier.fuser.score(evidence) for which, verifier in systems.items()}
    rows = []
    for forgery in [each for each in images["kind"].unique() if each]:
        row = dict.fromkeys(COLUMNS, np.nan)
        row |= {"source": name, "forgery": forgery, "pairs": int((species == forgery).sum())}
        rows.append(row)
        shown = images["kind"].isin(["", forgery]).to_numpy()
        synthetic, log_odds = (images["kind"] != "").to_numpy(), images["log_odds"].to_numpy()
        detector = detector_metrics(synthetic[shown], log_odds[shown])
        row |= {"auc": detector["auc"], "bpcer": detector["bpcer"]}
        if not row["pairs"]:
            continue
        chosen = (kind != "synthetic") | (species == forgery)
        people = [scored[f"label_{side}"].to_numpy()[chosen] for side in "ab"]
        draws = {}
        for which, verifier in systems.items():
            values = scores[which][chosen]
            figures = pair_metrics(kind[chosen], values, verifier.threshold)
            for metric in ("eer", "sv_eer", "spf_eer", "fnmr", "iapar"):
                row[f"{metric}_{which}"] = figures[metric]
            draws[which] = pair_draws(
                PairScores(*people, kind[chosen], values, verifier.threshold), RESAMPLES
            )
        for metric in ("eer", "spf_eer"):
            row[f"{metric}_gain"] = row[f"{metric}_alone"] - row[f"{metric}_fused"]
            difference = draws["alone"][metric] - draws["fused"][metric]
            low, high = intervals({metric: difference})[metric]
            row |= {f"{metric}_gain_low": low, f"{metric}_gain_high": high}
    return rows


HEAD = (
    "| source | forgery | pairs | detector AUC | false alarms | EER alone | EER fused | SV alone "
    "| SV fused | SPF alone | SPF fused | SPF gain | mated refused alone | fused "
    "| forgeries accepted alone | fused | |"
)


def is_worse(row: dict) -> bool:
    """Whether fusion is worse than recognition alone beyond the interval, of a cell with pairs."""
    return min(row["spf_eer_gain_high"], row["eer_gain_high"]) < 0


def gain_text(row: dict) -> str:
    """The gain in SPF-EER with its interval, in percentage points."""
    gain, low, high = (100 * row[f"spf_eer_gain{end}"] for end in ("", "_low", "_high"))
    return f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]"


def line(row: dict) -> str:
    """One cell of the table as Markdown."""
    cells = [row["source"], row["forgery"], row["pairs"], f"{row['auc']:.2f}"]
    cells.append(f"{100 * row['bpcer']:.0f}%")
    if not row["pairs"]:
        return "| " + " | ".join(map(str, [*cells, *["–"] * 11, ""])) + " |"
    rates = [
        f"{100 * row[f'{metric}_{which}']:.1f}%"
        for metric in ("eer", "sv_eer", "spf_eer", "fnmr", "iapar")
        for which in ("alone", "fused")
    ]
    cells += [*rates[:6], gain_text(row), *rates[6:], "**worse**" if is_worse(row) else ""]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    """Writes transfer.csv to OUT and prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run")
    add_options(parser)
    options = parser.parse_args()
    try:
        pipeline = load(options.run, options.out / "crops", "cpu", "auto")
        print(HEAD, "|" + " --- |" * (HEAD.count("|") - 1), sep="\n", flush=True)
        rows = []
        for name, images in write_sources(options):
            for row in measure_source(name, images, pipeline):
                rows.append(row)
                print(line(row), flush=True)
        target = options.out / "transfer.csv"
        with atomic_path(target) as temporary:
            pd.DataFrame(rows, columns=COLUMNS).to_csv(temporary, index=False, float_format="%.6g")
        print(summary(read_transfer(target)))
    except KryptoniteError as error:
        print(f"transfer.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

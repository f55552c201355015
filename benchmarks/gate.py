"""What a gate adds to foreign matchers: error rates of each alone and gated, and calibration.

python -m benchmarks.gate RUN OUT --pairs CSV --data_root DATA [--cache CACHE] [--first N]
    [--mobilefacenet FILE]

RUN is a finished run, CSV frozen pairs. Each matcher of benchmarks/matchers.py that is installed
scores the pairs; OUT/<matcher>.csv keeps them, in the form that `kryptonite gate fit` takes, so
that a second call scores none again. A gate is fitted to each (OUT/<matcher>.json and .html), and
all figures are those of scores cross-fitted over identities: of a fit that saw neither person of
the pair. `--first` takes the first N pairs alone, as somebody with few labelled pairs would.

Printed per matcher: SV-EER, SPF-EER and EER alone and gated, the gain with its 95% interval on the
same resampled identities, Cllr and minCllr in bits. Where the interval of the SV-EER's gain reaches
below -0.3 points, a loss of that size cannot be excluded.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.matchers import Embed, load_dlib, load_mobilefacenet, load_sface, similarities
from kryptonite.core.errors import KryptoniteError, WeightsError
from kryptonite.core.files import atomic_path
from kryptonite.core.memory import keep_freed_memory
from kryptonite.data.calibration import COLUMNS
from kryptonite.data.pairs import load_pairs
from kryptonite.detection.faces import UNREADABLE
from kryptonite.runs.gate import ALONE, GATED, GateSettings, fit_gate
from kryptonite.runs.load import load

RATES = (("SV-EER", "sv_eer"), ("SPF-EER", "spf_eer"), ("EER", "eer"))


def write_calibration(
    file: Path, load_matcher: Callable[[], Embed], options: argparse.Namespace
) -> None:
    """Lets a matcher score the pairs and keeps them as a calibration table."""
    matcher = load_matcher()
    pairs = load_pairs(options.pairs, options.data_root)
    if options.first:
        pairs = pairs.head(options.first)
    cache = load(options.run, options.cache, "cpu").extractor.cache
    faces = cache.ensure(pd.unique(pairs[["path_a", "path_b"]].to_numpy().ravel()).tolist())
    broken = set(faces.loc[faces["status"] == UNREADABLE, "path"])
    pairs = pairs[~(pairs["path_a"].isin(broken) | pairs["path_b"].isin(broken))]
    scored = pairs.assign(similarity=similarities(matcher, cache, pairs))
    with atomic_path(file) as temporary:
        scored[[*COLUMNS, "kind"]].to_csv(temporary, index=False)


def measure(name: str, options: argparse.Namespace) -> None:
    """Fits a gate to a matcher's table and prints its figures."""
    settings = GateSettings(cache=options.cache, device="cpu", resamples=options.resamples)
    figures = fit_gate(
        options.run, options.out / f"{name}.csv", options.out / f"{name}.json", settings
    )
    pairs = ", ".join(f"{count} {kind}" for kind, count in figures["counts"]["pairs"].items())
    print(f"{name}: {pairs}, {figures['refused']} refused; fusion {figures['fusion']}")
    for title, key in RATES:
        alone, gated = (figures["systems"][system][key] for system in (ALONE, GATED))
        gain = figures["gains"][GATED][key]
        low, high = gain["interval"]
        print(
            f"  {title:8} alone {100 * alone:5.2f}%  gated {100 * gated:5.2f}%  "
            f"gain {100 * gain['gain']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        )
    gated = figures["systems"][GATED]
    others = "  ".join(f"{each} {found['cllr']:.3f}" for each, found in figures["fusions"].items())
    print(
        f"  Cllr {gated['cllr']:.3f}  minCllr {gated['min_cllr']:.3f}  difference "
        f"{gated['cllr'] - gated['min_cllr']:.3f}  (by fusion: {others})"
    )


def main() -> int:
    """Measures every matcher that is installed and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--pairs", required=True, help="frozen pairs")
    parser.add_argument("--data_root", required=True, help="folder their paths are relative to")
    parser.add_argument("--cache", default=".cache/crops", help="folder of aligned crops")
    parser.add_argument("--first", type=int, help="number of pairs, from the start of the list")
    parser.add_argument("--mobilefacenet", type=Path, help="MobileFaceNet.tflite")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    options = parser.parse_args()
    keep_freed_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    matchers: dict[str, Callable[[], Embed]] = {"dlib": load_dlib, "sface": load_sface}
    if options.mobilefacenet:
        matchers["mobilefacenet"] = lambda: load_mobilefacenet(options.mobilefacenet)
    for name, load_matcher in matchers.items():
        file = options.out / f"{name}.csv"
        try:
            if not file.exists():
                write_calibration(file, load_matcher, options)
        except WeightsError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        measure(name, options)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KryptoniteError as error:
        sys.exit(f"benchmarks.gate: {error}")

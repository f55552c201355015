"""`kryptonite gate fit` and `kryptonite gate score`."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from kryptonite.cli.arguments import (
    add_cache,
    add_device,
    add_engine,
    add_run,
    command_parser,
)

DESCRIPTION = """\
Put a run's evidence of forgery behind your own face matcher."""
FIT = """\
Learn, from labelled pairs that a face matcher has scored, to turn its similarity and
both photos into a natural-log likelihood ratio that both are genuine photos of one
person. A few hundred pairs of a few dozen people are enough."""
SCORE = """\
Turn a face matcher's similarity and both photos into the likelihood ratio that both
are genuine photos of one person. The exit status is 0 whether they are accepted or
refused."""


def main(arguments: list[str], program: str) -> int:
    """Runs `fit` or `score` and returns the exit status."""
    actions = {"fit": _fit, "score": _score}
    if arguments and arguments[0] in actions:
        return actions[arguments[0]](arguments[1:], f"{program} {arguments[0]}")
    parser = command_parser(
        program, DESCRIPTION, ["fit --scores calibration.csv --run runs/demo", "score --help"]
    )
    parser.add_argument("action", choices=actions)
    parser.parse_args(arguments[:1])  # prints the help or an error, and exits
    raise AssertionError("argparse accepted an unknown action")


def _fit_parser(program: str) -> argparse.ArgumentParser:
    example = "--scores calibration.csv --run runs/demo --out gate.json"
    parser = command_parser(program, FIT, [example])
    parser.add_argument(
        "--scores",
        required=True,
        metavar="CSV",
        help="labelled pairs: path_a, path_b, label_a and label_b (identities), similarity (your "
        "matcher's, higher for one person), and kind (same, different, synthetic) or label (1, 0)",
    )
    add_run(parser)
    parser.add_argument(
        "--out", default="gate.json", help="file to write, with its report as HTML beside it"
    )
    parser.add_argument("--data_root", default=".", help="folder that paths may be relative to")
    parser.add_argument(
        "--fmr",
        metavar="RATE",
        type=float,
        nargs="+",
        help="false match rates, 0 to 1, at which thresholds are stored, 0.01 and 0.001 by "
        "default; the first that the pairs resolve is the gate's own",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        help="bootstrap resamples over identities behind the intervals, 1000 by default",
    )
    add_cache(parser)
    add_device(parser)
    return parser


def _score_parser(program: str) -> argparse.ArgumentParser:
    example = "a.jpg b.jpg --similarity 0.63 --gate gate.json --run runs/demo"
    parser = command_parser(program, SCORE, [example])
    parser.add_argument("photo_a", metavar="A", help="image file")
    parser.add_argument("photo_b", metavar="B", help="image file")
    parser.add_argument(
        "--similarity",
        type=float,
        required=True,
        help="your matcher's similarity of them; a negative one with =, as --similarity=-1e-3",
    )
    parser.add_argument("--gate", default="gate.json", help="file that `gate fit` wrote")
    add_run(parser)
    parser.add_argument(
        "--threshold", metavar="NAME", help="name of one of the gate's thresholds; the first if not"
    )
    add_device(parser)
    add_engine(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    return parser


def _fit(arguments: list[str], program: str) -> int:
    parser = _fit_parser(program)
    options = parser.parse_args(arguments)

    from kryptonite.core.files import check_writable
    from kryptonite.report.analysis import FMRS
    from kryptonite.runs.gate import GateSettings, fit_gate

    fmrs = options.fmr or FMRS
    if not all(0 < fmr < 1 for fmr in fmrs):
        parser.error("--fmr must lie between 0 and 1")
    out = Path(options.out)
    for file in (out, out.with_suffix(".html")):
        check_writable(file)  # before minutes of scoring
    settings = GateSettings(
        data_root=options.data_root,
        cache=options.cache,
        device=options.device,
        fmrs=fmrs,
        resamples=options.resamples,
    )
    figures = fit_gate(options.run, options.scores, out, settings)
    for warning in figures["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    print("\n".join(_in_words(figures)))
    print(f"{out}, {out.with_suffix('.html')}")
    return 0


def _in_words(figures: dict[str, Any]) -> list[str]:
    pairs = figures["counts"]["pairs"]
    lines = [
        f"pairs: {pairs['same']} mated, {pairs['different']} non-mated, {pairs['synthetic']} "
        f"synthetic, of {figures['counts']['people']} people; {figures['refused']} refused without "
        f"a face, {figures['unreadable']} unreadable and left out"
    ]
    for system, measured in figures["systems"].items():
        rates = "  ".join(
            f"{name} {measured[key]:.4f} [{low:.4f}, {high:.4f}]"
            for name, key in (("SV-EER", "sv_eer"), ("SPF-EER", "spf_eer"))
            for low, high in [measured["intervals"][key]]
        )
        lines.append(f"{system:7} {rates}")
    gated = figures["systems"]["gated"]
    lines.append(
        f"fusion {figures['fusion']}: Cllr {gated['cllr']:.4f}, minCllr {gated['min_cllr']:.4f} "
        "(cross-fitted over people)"
    )
    for point in figures["thresholds"]["gated"]:
        if point["threshold"] is None or (point["at"].startswith("FMR") and not point["fmr"]):
            lines.append(f"threshold {point['at']}: too few non-mated pairs")
            continue
        lines.append(
            f"threshold {point['at']}: {point['threshold']:.3f}, FNMR {point['fnmr']:.4f}, "
            f"IAPAR {point['iapar']:.4f}" + ("" if point["sure"] else " (unsure: few pairs)")
        )
    return lines


def _score(arguments: list[str], program: str) -> int:
    parser = _score_parser(program)
    options = parser.parse_args(arguments)
    if not math.isfinite(options.similarity):
        parser.error("--similarity must be finite")

    from kryptonite.core.images import shown
    from kryptonite.runs.gate import load_gate

    gate = load_gate(options.gate, options.run, device=options.device, engine=options.engine)
    photos = options.photo_a, options.photo_b
    answer = gate.score(options.similarity, *photos, options.threshold)
    if options.json:
        sides = {"synthetic_probability": answer.synthetic_probability, "status": answer.status}
        print(json.dumps({**answer.as_dict(), **sides}))
        return 0
    print(answer.reason)
    if answer.llr is not None:
        print(f"log likelihood ratio {answer.llr:.4f} (threshold {answer.threshold:.4f})")
    for photo, probability in zip(photos, answer.synthetic_probability, strict=True):
        print(f"{shown(photo)}: probability of synthetic {probability:.4f}")
    print(f"{answer.seconds:.2f} seconds")
    return 0

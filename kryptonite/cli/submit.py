"""`kryptonite submit`, and make_submission.py at the root of a checkout."""

import os
import sys
from functools import partial
from pathlib import Path

from kryptonite.cli.arguments import add_cache, add_device, add_engine, add_run, command_parser

DESCRIPTION = """\
Score the challenge's test pairs with a run and write a CSV with pair_id and
similarity, every pair once. Pairs without a face in both images, and pairs with an
unreadable image, are refused: they score below every other.

With --probes and --references, score probes against several photos of the person
each is claimed to show; pair_id is then the probe's id."""
EXAMPLES = (
    "",
    "--run runs/demo --data_root runs/demo/data-root --out submission.csv",
    "--run runs/demo --ray auto",
    "--run runs/demo --probes probes.csv --references references.csv",
)


def main(arguments: list[str], program: str) -> int:
    """Writes the submission; returns 1 with --strict where an image cannot be read, 0 otherwise."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    parser.add_argument(
        "--data_root",
        default=".",
        help="folder with test.csv or data/test_public; paths of --probes and --references are "
        "relative to it",
    )
    parser.add_argument("--out", help="CSV to write; by default submission.csv in the run's folder")
    parser.add_argument(
        "--probes",
        metavar="CSV",
        help="probe_id, path and, unless it equals probe_id, reference_id: scores these photos "
        "instead of test pairs",
    )
    parser.add_argument(
        "--references",
        metavar="CSV",
        help="reference_id and path, a row per photo: whom the probes are claimed to show",
    )
    add_cache(parser)
    add_device(parser)
    add_engine(parser)
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="extract features on a Ray cluster: auto, local or its address",
    )
    parser.add_argument(
        "--no_crops",
        dest="keep_crops",
        action="store_false",
        help="cache features alone: a fraction of the space, but other networks find faces anew",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 when an image cannot be read"
    )
    options = parser.parse_args(arguments)
    if bool(options.probes) != bool(options.references):
        parser.error("--probes and --references belong together")

    from kryptonite.core.files import check_writable
    from kryptonite.core.images import shown
    from kryptonite.inference.submission import submit, submit_references
    from kryptonite.runs.load import load, load_extractor
    from kryptonite.runs.run_dir import RunDir

    target = Path(options.out or RunDir(Path(options.run)).submission)
    check_writable(target)  # before hours of scoring
    executor, device = None, options.device
    if options.ray:
        from kryptonite.inference.ray_executor import RayExecutor

        places = os.path.abspath(options.run), os.path.abspath(options.cache)
        load_worker = partial(load_extractor, *places, options.engine, options.keep_crops)
        executor = RayExecutor(options.ray, load_worker)
        device = "cpu"  # the cluster extracts, on its CPUs
    pipeline = load(
        options.run, options.cache, device, options.engine, executor, options.keep_crops
    )
    if options.probes:
        tables = options.probes, options.references
        claims = submit_references(pipeline, *tables, options.data_root, target)
        print(
            f"{target}: {len(claims.scores)} probes, {claims.images} images, no face found in "
            f"{len(claims.no_face)} ({claims.refused} probes refused)"
        )
        for path in claims.unreadable:
            print(f"unreadable: {shown(path)}", file=sys.stderr)
        return 1 if options.strict and claims.unreadable else 0
    report = submit(pipeline, options.data_root, target)
    extractor = pipeline.extractor
    print(
        f"{target}: {report.pairs} pairs, {report.images} images, "
        f"no face found in {report.failures_to_acquire} ({len(report.no_face)} pairs refused); "
        f"recognition by {extractor.recogniser.engine}, liveness by {extractor.detector.engine}"
    )
    for pair in report.unreadable.itertuples():
        photos = f"{shown(pair.path_a)}, {shown(pair.path_b)}"
        print(f"unreadable, refused: pair {pair.pair_id} ({photos})", file=sys.stderr)
    return 1 if options.strict and len(report.unreadable) else 0

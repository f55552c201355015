"""Measure what `make_submission.py` costs as the list of pairs grows.

python -m benchmarks.scaling [--run runs/demo] [--engine torch] [--distinct 5000 50000]

Needs the run that `make demo` leaves. Times whole processes that start from an empty crop cache.
Each list has files of its own: in the first table they repeat the contents of the demo's test
photos, in the second and third no content occurs twice; for the third, the cache keeps features
alone. The time for one pair is almost all start-up.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

from kryptonite.core.files import sha256_file

RECURRING, DISTINCT, STARTS = (1_000, 10_000, 100_000), (1_000, 10_000), 5


def write_list(folder: Path, photos: list[Path], count: int, distinct: bool) -> None:
    """Writes test.csv and two files for each pair.

    Args:
        folder: Created; the root of the data.
        photos: JPEG files whose contents are repeated.
        count: Number of pairs.
        distinct: Whether to make every content different. Decoders ignore what follows the end of
            a JPEG, so a few bytes appended there do.
    """
    (folder / "data").mkdir(parents=True)
    rows = ["label,path,split"]
    for number, photo in enumerate(islice(cycle(photos), 2 * count)):
        name = f"data/{number}.jpg"
        if distinct:
            (folder / name).write_bytes(photo.read_bytes() + str(number).encode())
        else:
            os.link(photo, folder / name)
        rows.append(f"{number // 2:08d},{name},test")
    (folder / "test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def submit(
    run: str, folder: Path, engine: str, cache: Path, flags: Sequence[str] = ()
) -> tuple[float, float]:
    """Scores a list in a process of its own; returns its seconds and peak memory in MiB."""
    options = {
        "--run": run,
        "--data_root": folder,
        "--cache": cache,
        "--out": folder / "s.csv",
        "--engine": engine,
    }
    words = [*(str(word) for option in options.items() for word in option), *flags]
    began = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "make_submission.py", *words], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"scaling.py: make_submission.py failed on {folder}")
    units_per_mib = 1024 if sys.platform.startswith("linux") else 1024**2
    return perf_counter() - began, usage.ru_maxrss / units_per_mib


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument(
        "--engine",
        default="auto",
        help="as for make_submission.py; auto is ONNX Runtime once `kryptonite export` has run",
    )
    parser.add_argument(
        "--distinct",
        type=int,
        nargs="+",
        default=DISTINCT,
        help="pairs of lists without repeats",
    )
    options = parser.parse_args()
    found = sorted((Path(options.run) / "data-root/data/test_public/images").rglob("*.jpg"))
    if not found:
        sys.exit(f"scaling.py: {options.run}: holds no demo; `make demo` makes one")
    photos = list({sha256_file(path): path for path in found}.values())
    # Hard links need the folder to be on the photos' file system.
    with tempfile.TemporaryDirectory(dir=options.run) as folder:
        one = Path(folder) / "one"
        write_list(one, photos, 1, distinct=False)
        starts = [
            submit(options.run, one, options.engine, one / f"cache-{turn}")[0]
            for turn in range(STARTS)
        ]
        print(f"one pair: {statistics.median(starts):.1f} s (median of {STARTS})")
        for number, (title, counts, distinct, flags) in enumerate(
            (
                ("contents recur", RECURRING, False, ()),
                ("every content distinct", options.distinct, True, ()),
                ("every content distinct, --no_crops", options.distinct, True, ("--no_crops",)),
            )
        ):
            print(
                f"{title}\n{'pairs':>8}{'seconds':>10}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}"
                f"{'cache, KB a file':>18}"
            )
            before = None
            for count in counts:
                root = Path(folder) / f"{number}-{count}"
                write_list(root, photos, count, distinct)
                cache = root / "cache"
                seconds, memory = submit(options.run, root, options.engine, cache, flags)
                held = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
                ratios = (seconds / before[0], memory / before[1]) if before else (1.0, 1.0)
                print(
                    f"{count:8,}{seconds:10.1f}{ratios[0]:8.2f}{memory:10.0f}{ratios[1]:8.2f}"
                    f"{held / 2000 / count:18.1f}",
                    flush=True,
                )
                before = seconds, memory
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What `make_submission.py` costs as the list grows: `python -m benchmarks.scaling [--run runs/demo] [--engine torch]` after `make demo`.

Whole processes from an empty crop cache, each list in files of its own: in the first table their contents are those of the demo's test
photos over and over, in the second no content is twice. Start-up is a list of one pair, so that it ends with the first batch.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

from kryptonite.core.files import sha256_file

RECURRING, DISTINCT, STARTS = (1_000, 10_000, 100_000), (1_000, 10_000), 5


def write_list(folder: Path, photos: list[Path], count: int, distinct: bool) -> None:
    """Writes test.csv and two files for each of `count` pairs; a JPEG may have bytes after its end, which make contents differ."""
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


def submit(run: str, folder: Path, engine: str, cache: Path) -> tuple[float, float]:
    """Seconds and peak memory in MiB of one process."""
    places = [
        "--run",
        run,
        "--data_root",
        str(folder),
        "--cache",
        str(cache),
        "--out",
        str(folder / "s.csv"),
        "--engine",
        engine,
    ]
    began = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "make_submission.py", *places], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"scaling.py: make_submission.py failed on {folder}")
    return perf_counter() - began, usage.ru_maxrss / (
        1024 if sys.platform.startswith("linux") else 1024**2
    )


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument(
        "--engine",
        default="auto",
        help="as make_submission.py takes it; auto is ONNX Runtime after export.py",
    )
    arguments = parser.parse_args()
    found = sorted((Path(arguments.run) / "data-root/data/test_public/images").rglob("*.jpg"))
    if not found:
        sys.exit(f"scaling.py: {arguments.run}: holds no demo; `make demo` makes one")
    photos = list({sha256_file(path): path for path in found}.values())
    # Beside the data, so that files can be linked.
    with tempfile.TemporaryDirectory(dir=arguments.run) as folder:
        one = Path(folder) / "one"
        write_list(one, photos, 1, distinct=False)
        starts = [
            submit(arguments.run, one, arguments.engine, one / f"cache-{turn}")[0]
            for turn in range(STARTS)
        ]
        print(f"one pair: {statistics.median(starts):.1f} s (median of {STARTS})")
        for kind, counts in (("contents recur", RECURRING), ("every content distinct", DISTINCT)):
            print(f"{kind}\n{'pairs':>8}{'seconds':>10}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}")
            before = None
            for count in counts:
                place = Path(folder) / f"{count}-{kind[0]}"
                write_list(place, photos, count, kind.startswith("every"))
                seconds, memory = submit(arguments.run, place, arguments.engine, place / "cache")
                ratios = (seconds / before[0], memory / before[1]) if before else (1.0, 1.0)
                print(
                    f"{count:8,}{seconds:10.1f}{ratios[0]:8.2f}{memory:10.0f}{ratios[1]:8.2f}",
                    flush=True,
                )
                before = seconds, memory


if __name__ == "__main__":
    main()

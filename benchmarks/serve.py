"""Measure the service: requests per second and times of answers, at several numbers of clients.

python -m benchmarks.serve [--run runs/demo]

Starts `kryptonite serve` on the run that `make demo` leaves, and sends it pairs of the demo's
photos, enlarged to the side asked for. Clients keep their connection and send the next pair when
they have the answer. They share the cores with the service, as does nothing else, one hopes.

Before, the same pairs are scored as a list by `Pipeline.score_pairs`, from an empty cache: the
throughput that the service is compared with.

The processor time of the service per request (Linux alone) can be compared on a busy machine, too.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from kryptonite.cli.process import configure_process
from kryptonite.core.errors import KryptoniteError
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.runs.load import load
from kryptonite.runs.run_dir import RunDir

CLIENTS = (1, 4, 16)
PAIRS = 64  # distinct ones
_HEADERS = {"Content-Type": "multipart/form-data; boundary=b"}


def enlarged_photos(root: Path, side: int, folder: Path) -> list[Path]:
    """Writes the demo's photos as JPEG files of a side in pixels; two for each of `PAIRS`."""
    files = []
    images = load_images(DataConfig(str(root)), "train")
    for number, path in enumerate(images["path"].head(2 * PAIRS)):
        with Image.open(path) as photo:
            files.append(folder / f"{number}.jpg")
            photo.resize((side, side), Image.Resampling.BICUBIC).save(files[-1], quality=90)
    return files


def score_list(run: Path, engine: str, files: list[Path]) -> tuple[float, float]:
    """Scores the pairs as a list, from an empty cache: pairs per second, processor ms per pair."""
    with tempfile.TemporaryDirectory() as cache:
        pipeline = load(run, cache=cache, engine=engine)
        paths = [str(file) for file in files]
        pairs = pd.DataFrame({"path_a": paths[::2], "path_b": paths[1::2]})
        pipeline.verify(*paths[:2])  # loads what is loaded at first use
        began, busy = perf_counter(), process_time()
        pipeline.score_pairs(pairs, progress=False)
        busy = process_time() - busy
        return len(pairs) / (perf_counter() - began), 1000 * busy / len(pairs)


class Service(NamedTuple):
    """A running service: host and port, and its process."""

    place: tuple[str, int]
    pid: int

    def processor_seconds(self) -> float:
        """Processor time it has taken so far; not a number except on Linux."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def service(run: Path, engine: str) -> Iterator[Service]:
    """Runs the service in a process of its own."""
    command = [sys.executable, "-m", "kryptonite", "serve", "--run", str(run), "--port", "0"]
    with subprocess.Popen(
        [*command, "--engine", engine], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        print(line.strip())
        found = re.search(r"http://([^/]+):(\d+)/", line)
        if found is None:
            raise RuntimeError("the service did not start")
        try:
            yield Service((found[1], int(found[2])), process.pid)
        finally:
            process.terminate()


def form(photos: tuple[bytes, bytes]) -> bytes:
    """A request's body."""
    parts = []
    for name, photo in zip(("photo_a", "photo_b"), photos, strict=True):
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="x.jpg"'
        parts += [b"--b\r\n", disposition.encode(), b"\r\n\r\n", photo, b"\r\n"]
    return b"".join([*parts, b"--b--\r\n"])


def send_for(place: tuple[str, int], bodies: list[bytes], seconds: float) -> list[float]:
    """Sends one request after the other for a time; gives the seconds that each took."""
    connection = HTTPConnection(*place, timeout=120)
    times = []
    end = perf_counter() + seconds
    for number in range(10**9):
        began = perf_counter()
        if began >= end and times:
            return times
        connection.request("POST", "/v1/verify", bodies[number % len(bodies)], _HEADERS)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {content.decode()}")
        times.append(perf_counter() - began)
    return times


def measure(service: Service, bodies: list[bytes], clients: int, seconds: float) -> str:
    """Gives a row of the table: clients, requests/s, median, 95th percentile, processor ms."""
    began, busy = perf_counter(), service.processor_seconds()
    with ThreadPoolExecutor(clients) as threads:
        # Each client starts at another pair.
        starts = [len(bodies) * client // clients for client in range(clients)]
        running = [
            threads.submit(send_for, service.place, bodies[start:] + bodies[:start], seconds)
            for start in starts
        ]
        times = [time for each in running for time in each.result()]
    rate = len(times) / (perf_counter() - began)
    p50, p95 = 1000 * np.quantile(times, [0.5, 0.95])
    each = 1000 * (service.processor_seconds() - busy) / len(times)
    return f"| {clients} | {rate:.1f} | {p50:.0f} | {p95:.0f} | {each:.0f} |"


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--side", type=int, default=1000, help="of the photos, in pixels")
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "onnx"])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    options = parser.parse_args()
    configure_process()
    try:
        root = Path(RunDir(options.run).read_config()["data"]["root"])
        with tempfile.TemporaryDirectory() as folder:
            files = enlarged_photos(root, options.side, Path(folder))
            rate, each = score_list(options.run, options.engine, files)
            contents = [file.read_bytes() for file in files]
    except KryptoniteError as error:
        print(error, file=sys.stderr)
        return 2
    bodies = [form(pair) for pair in zip(contents[::2], contents[1::2], strict=True)]
    kilobytes = sum(map(len, contents)) / len(contents) / 1e3
    print(f"{options.side} × {options.side} pixels, {kilobytes:.0f} kB")
    with service(options.run, options.engine) as running:
        send_for(running.place, bodies, 1.0)
        print("| clients | requests/s | p50, ms | p95, ms | processor, ms |")
        print("| --- | --- | --- | --- | --- |")
        for clients in CLIENTS:
            print(measure(running, bodies, clients, options.seconds), flush=True)
    print(f"as a list: {rate:.1f} pairs/s, {each:.0f} ms of the processor each")
    return 0


if __name__ == "__main__":
    sys.exit(main())

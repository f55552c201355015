"""`kryptonite serve` as a process of its own."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORM = "multipart/form-data; boundary=b"


@contextmanager
def serving(
    run: Path, temporary: Path, *options: str, files: int | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen, str, int]]:
    """Starts the service on a run called `tiny`, kills it at the end.

    Args:
        run: The run.
        temporary: Its folder for temporary files.
        options: Of the command.
        files: Soft limit on open files that it starts with; this process's own unless given.
        environment: Variables beside those of this process.

    Returns:
        The process, its host and its port.
    """

    def limit_files() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))

    command = [sys.executable, "-m", "kryptonite", "serve", "--run", str(run)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--device", "cpu", *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if files is None else limit_files,
    )
    try:
        line = process.stdout.readline()
        found = re.match(r"tiny: http://(.+):(\d+)/ \(recognition by torch on cpu, ", line)
        assert found, line or process.stderr.read()
        yield process, found[1], int(found[2])
    finally:
        process.kill()
        process.communicate()


def form(*photos: bytes) -> bytes:
    """The body of a form with the fields photo_a, photo_b."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="photo_%c"; filename="x"\r\n\r\n' % name
        + photo
        + b"\r\n"
        for name, photo in zip(b"ab", photos, strict=True)
    ]
    return b"".join(parts) + b"--b--\r\n"

"""`kryptonite serve`."""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from kryptonite.cli.arguments import add_device, add_engine, add_run, command_parser
from kryptonite.core.errors import ConfigError
from kryptonite.core.images import MAX_MEGAPIXELS
from kryptonite.serve.limits import Limits

DESCRIPTION = """\
Answer over HTTP whether two photos are genuine and show the same person, with a page
at /. Ctrl-C or SIGTERM stops it once the requests it has are answered; the exit status
is then 0. If KRYPTONITE_API_KEY is set, requests must send it as the header X-API-Key."""
EXAMPLES = (
    "--run runs/demo",
    "--run runs/demo --gate gate.json",
    "--run runs/demo --host 0.0.0.0 --port 80 --api_key_file key.txt",
)
KEY_VARIABLE = "KRYPTONITE_API_KEY"
_LIMITS = {
    "photo_megabytes": "largest file of a photo",
    "megapixels": f"largest photo, {MAX_MEGAPIXELS} at most",
    "requests": "requests that are received or wait at a time; more are answered with 503",
    "uploads": "requests of one client that are received at a time; more are answered with 429",
    "batch": "requests computed at a time",
    "upload_seconds": "time for a request to arrive",
    "answer_seconds": "time from then to its answer",
}
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def main(arguments: list[str], program: str) -> int:
    """Serves until a signal and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one")
    add_device(parser)
    add_engine(parser)
    parser.add_argument("--gate", help="file that `kryptonite gate fit` wrote, for /v1/gate")
    parser.add_argument(
        "--api_key_file", help=f"file that holds the API key; instead of {KEY_VARIABLE}"
    )
    for name, what in _LIMITS.items():
        usual = getattr(Limits, name)
        parser.add_argument(
            f"--{name}", type=type(usual), default=usual, help=f"{what}; {usual:g} by default"
        )
    options = parser.parse_args(arguments)
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            f"the service needs {', '.join(missing)}: pip install 'kryptonite[serve]'"
        )
    if not 0 <= options.port < 2**16:
        raise ConfigError(f"port {options.port}: must be from 0 to {2**16 - 1}")
    key = read_key(options.api_key_file)
    limits = Limits(**{name: getattr(options, name) for name in _LIMITS})

    from kryptonite.runs.gate import load_gate
    from kryptonite.runs.load import load
    from kryptonite.serve.about import describe
    from kryptonite.serve.app import create_app
    from kryptonite.serve.server import listen, run_server

    engine = {"device": options.device, "engine": options.engine}
    if options.gate:
        gate = load_gate(options.gate, options.run, **engine)
        pipeline = gate.pipeline
    else:
        gate, pipeline = None, load(options.run, **engine)
    about = describe(Path(options.run), pipeline, limits, gate)
    app = create_app(pipeline, about, limits, key, gate)
    with listen(options.host, options.port) as listener:
        host, port, *_ = listener.getsockname()
        shown = f"[{host}]" if ":" in host else host
        engines = ", ".join(f"{part} by {name}" for part, name in about.info.engines.items())
        print(f"{about.info.run}: http://{shown}:{port}/ ({engines})", flush=True)
        with suppress(KeyboardInterrupt):  # or Terminated: sent on once all is answered
            run_server(app, listener, limits.upload_seconds + limits.answer_seconds)
    return 0


def read_key(file: str | None) -> str:
    """The API key; empty for none.

    Raises:
        ConfigError: The file is empty or no text, or there are two keys.
    """
    variable = os.environ.get(KEY_VARIABLE, "")
    if file is None:
        return variable
    if variable:
        raise ConfigError(f"--api_key_file: {KEY_VARIABLE} is set too; give one of them")
    try:
        key = Path(file).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: holds no API key: it is not UTF-8 text") from error
    if not key:
        raise ConfigError(f"{file}: holds no API key")
    return key

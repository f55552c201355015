"""Share the looking out among the machines of a Ray cluster: the pipeline's own eyes in Ray Data's actors."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from common.errors import ConfigError
from looks import Sights
from pipeline import Pipeline


class Worker:
    """An actor: a pipeline that looks at one share after the other.

    Args:
        threads: Cores it may use.
        load: Arguments of `Pipeline.load`.
    """

    def __init__(self, threads: int, load: dict[str, Any]):
        torch.set_num_threads(threads)
        self._eyes = Pipeline.load(**load).eyes

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        """Looks at the images of `paths`."""
        return {"sights": self._eyes.share(list(row["paths"])).packed()}


class Cluster:
    """Looks at shares on a cluster, as `Eyes.look` wants it; a share whose worker dies is done again by another.

    Every worker uses as many cores as this process does (`OMP_NUM_THREADS`), and there are as many as the cluster has cores for. The
    project, the data, the run and the cache must lie under the same paths on all machines.

    Args:
        address: Of the cluster; `auto` finds the one this machine belongs to, `local` starts one here.
        run: Folder of the run.
        cache: Folder of the crop cache.
        engine: As `Pipeline.load`. Workers compute on CPUs.
        worker: The actor's class.

    Raises:
        ConfigError: Ray is not installed or there is no such cluster.
    """

    def __init__(self, address: str, run: Path | str, cache: Path | str, engine: str = "torch", worker: type[Worker] = Worker):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is to be sent anywhere
        try:
            import ray.data
        except ImportError as error:
            raise ConfigError("pip install -r requirements-ray.txt brings Ray, which scoring on a cluster needs") from error
        try:
            ray.init(
                address=address,
                ignore_reinit_error=True,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
            )
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"no Ray cluster at {address!r}: {error}") from error
        self._ray, self._worker = ray, worker
        self._threads = torch.get_num_threads()
        paths = {"run": os.path.abspath(run), "cache": os.path.abspath(cache)}
        self._load = {**paths, "device": "cpu", "engine": engine}

    def __call__(self, shares: list[list[str]]) -> Iterator[Sights]:
        """Gives what is seen in each share, in order."""
        data = self._ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        cores = int(self._ray.cluster_resources()["CPU"])
        rows = data.from_items([{"paths": share} for share in shares], override_num_blocks=max(1, len(shares)))
        seen = rows.map(
            self._worker,
            fn_constructor_args=(self._threads, self._load),
            compute=data.ActorPoolStrategy(size=max(1, cores // self._threads)),
            num_cpus=self._threads,
        )
        for row in seen.iter_rows():
            yield Sights.unpacked(row["sights"])

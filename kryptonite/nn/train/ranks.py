"""Which process of a distributed run this is."""

import os

import torch.distributed as dist


def ranks() -> tuple[int, int]:
    """Gives (rank, world size); (0, 1) in a plain process.

    Before the process group is up, the launcher's environment tells: torchrun sets `RANK`, Lightning's own launcher `LOCAL_RANK`.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))), int(
        os.environ.get("WORLD_SIZE", 1)
    )


def wait_for_all() -> None:
    """Waits until every process of the group is here; returns at once outside a group."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()

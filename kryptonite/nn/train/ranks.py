"""This process's place in a distributed run."""

import os

import torch.distributed as dist


def ranks() -> tuple[int, int]:
    """Returns (rank, world size); (0, 1) outside a distributed run.

    Before the process group exists, the launcher's environment decides: torchrun sets `RANK`,
    Lightning's own launcher `LOCAL_RANK`.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))), int(
        os.environ.get("WORLD_SIZE", 1)
    )


def wait_for_all() -> None:
    """Waits for every process of the group; returns at once outside a group."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()

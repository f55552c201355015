"""What both branches' training shares: the trainer with resume, EMA and early stop; optimiser; crop data set; ranks."""

from training.ranks import ranks

__all__ = ["ranks"]

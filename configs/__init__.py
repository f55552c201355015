"""Configurations that ship with the package; `--config NAME` takes one by its name."""

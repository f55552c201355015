"""Leaf helpers every package may import: typed errors, atomic files, image decoding, input contracts, weights."""

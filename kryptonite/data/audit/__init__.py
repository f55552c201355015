"""Checks a data set before training: duplicates, shortcuts, mislabels; writes cleaned tables."""

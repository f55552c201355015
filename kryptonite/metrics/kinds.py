"""The kinds of pairs, spelled as in pair files."""

# Mated pairs, pairs of two people, pairs with a synthetic image.
KINDS = ("same", "different", "synthetic")

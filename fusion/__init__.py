"""One score per pair from a similarity and two log-odds; arrays in, arrays out."""

"""Fuses a similarity and two log-odds into one score per pair; arrays in, arrays out."""

"""Differential forgery detection: a pair of photos scored from where their features disagree."""

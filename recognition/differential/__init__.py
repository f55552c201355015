"""Differential forgery detection: scores a pair of photos from where their features disagree."""

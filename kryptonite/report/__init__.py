"""Figures of scored pairs, and the pages and pictures that show them."""

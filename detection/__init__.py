"""Turns photos of any size into aligned crops."""

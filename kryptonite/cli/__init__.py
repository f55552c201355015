"""The commands: each parses, calls and reports."""

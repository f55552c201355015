"""How good a system is, in the field's terms."""

"""From photos of any size to aligned crops."""

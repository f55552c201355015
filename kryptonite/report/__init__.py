"""Turn scored pairs into figures, and figures into HTML pages and pictures."""

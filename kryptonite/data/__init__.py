"""Image tables, pair protocols, layouts of the challenge, submissions, forgeries, demo data."""

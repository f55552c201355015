"""A run's folder: what is in it, how its stages are trained, how it is assessed."""

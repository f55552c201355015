"""Maps aligned crops to the log-odds that an image is synthetic."""

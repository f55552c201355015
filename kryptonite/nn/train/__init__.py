"""Training code shared by the branches: the fit loop, optimiser, data sets and samplers."""

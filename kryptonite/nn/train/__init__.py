"""What both branches' training shares: trainer with resume, averages and early stop, optimiser, data sets, ranks."""

"""What is wrong with a data set before it is trained on: duplicates, shortcuts, mislabels; and the tables it leaves."""

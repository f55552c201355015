"""What corruptions of the images cost and what each part of training adds, on the same frozen pairs."""

"""What corruptions and attacks cost, and what each part of training adds."""

"""Money, and what sources ask for their answers."""

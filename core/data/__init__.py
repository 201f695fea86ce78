"""Programming problems and the token batches made of them."""

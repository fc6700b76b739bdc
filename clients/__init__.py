"""A device in training: its ClientApp, local training, and what it shares."""

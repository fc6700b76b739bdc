"""The data of a federation: where it comes from, who holds which record, and which records the coin makes members."""

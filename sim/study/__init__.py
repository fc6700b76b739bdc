"""Several runs of one scenario, over seeds and over variants of its settings, read together."""

"""The aggregator: its ServerApp and strategies."""

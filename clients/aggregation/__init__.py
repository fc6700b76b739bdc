"""The client's half of secure aggregation: Flower mods after which only the sum of the updates can be read."""

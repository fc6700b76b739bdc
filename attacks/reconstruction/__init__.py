"""Records got back out of an update or a model: exactly, by optimisation, or only what a class looks like."""

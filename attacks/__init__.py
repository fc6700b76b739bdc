"""Who pries: what an attacker observes, and what it makes of it."""

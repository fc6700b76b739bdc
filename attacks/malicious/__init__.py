"""A server that deviates: weights it makes to pry, and what the clients' answers to them tell it."""

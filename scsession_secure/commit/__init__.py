"""The ways in which a request changes the store: start, write, rotate, renew, end. `layers.persist` chooses."""

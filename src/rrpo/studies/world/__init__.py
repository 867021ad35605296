"""How good a mini world is."""

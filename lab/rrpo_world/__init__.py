"""The recipe of the bundled mini world, and how good that world is; `rrpo` needs none of it."""

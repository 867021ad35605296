"""Studies of the mini world and of what its judges hear."""

"""Reward hacking made to happen: artifacts planted in the data of a reward model."""

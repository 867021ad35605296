"""The reward model: speech tokens in, the posterior of each emotion out."""

from rrpo.reward.model import RewardConfig, RewardModel, load, save

__all__ = ["RewardConfig", "RewardModel", "load", "save"]

"""The reward model: speech tokens in, the posterior of each emotion out."""

from rrpo.reward.config import RewardConfig
from rrpo.reward.differentiable import DifferentiableReward
from rrpo.reward.model import RewardModel, load, save
from rrpo.reward.reward import Reward

__all__ = ["DifferentiableReward", "Reward", "RewardConfig", "RewardModel", "load", "save"]

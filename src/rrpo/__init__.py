"""Robust Reward Policy Optimization for LLM-based emotional text-to-speech.

A reward model is trained on speech tokens, hardened, attacked, and only then is a speech-token
language model post-trained against it, by gradients straight through its token choices.
"""

__version__ = "0.1.0"

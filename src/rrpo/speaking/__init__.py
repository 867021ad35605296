"""Policies speak: text and emotion to tokens and audio, in the mini world or with CosyVoice."""

"""Reward models on recordings of people."""

"""Longer experiments, each with a page of its own (`rrpo study NAME`)."""

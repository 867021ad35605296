"""Measurements of the estimators and of the speed, `rrpo bench NAME`."""

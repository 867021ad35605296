"""A training that listens to itself: looks at fixed prompts, evidence of harm, an alarm."""

from rrpo.monitor.config import MonitorConfig
from rrpo.monitor.looks import read_looks
from rrpo.monitor.setup import monitored

__all__ = ["MonitorConfig", "monitored", "read_looks"]

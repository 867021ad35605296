"""Loaded first by the process that others are forked from: it outlives a signal to all of them.

While it is there its children can be waited for. It ends when its parent does. What is forked from
it takes SIGTERM as usual again (`rrpo.studies.children.own_signals`).
"""

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)

"""Processes that work for another one: they do not go on without it, and end when it is told to."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.context import BaseContext

LOADED = [
    "rrpo.studies.fork_server",
    "rrpo.judging",
    "rrpo.post_training",
    "rrpo.reward_training",
]
"""Modules that processes of `new_context` need not load: most of the time of a short one."""


def new_context() -> BaseContext:
    """Return how processes are started: none has its parent's threads.

    On Linux they are forked from one that has loaded torch; elsewhere, where its libraries do not
    bear that, each loads all by itself. One that is forked has to call `own_signals`.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(LOADED)
    return multiprocessing.get_context("forkserver")


def own_signals() -> None:
    """Let SIGTERM end this process, which the one that it was forked from ignores."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_with_parent() -> None:
    """Let this process be told to end (SIGTERM) as soon as its parent is gone."""
    own_signals()
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def outlive() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=outlive, daemon=True).start()


@contextlib.contextmanager
def terminated() -> Iterator[None]:
    """Let SIGTERM be Ctrl-C, so that whoever is told to end can tell its children."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

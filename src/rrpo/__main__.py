"""`python -m rrpo`."""

from rrpo.cli import main

main()

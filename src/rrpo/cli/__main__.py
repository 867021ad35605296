"""`python -m rrpo.cli`."""

from rrpo.cli import main

main()

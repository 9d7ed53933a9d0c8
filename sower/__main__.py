"""`python -m sower` is `sower`."""

from sower.cli import main

main()

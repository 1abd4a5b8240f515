"""`python -m mclr` is `mclr`."""

from mclr.cli import main

main()

"""`python -m sitpayd` is the command line."""

from sitpayd.cli import main

main()

"""``python -m pyopt.cli``."""

from . import main

main()

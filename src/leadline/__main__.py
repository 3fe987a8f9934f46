"""`python -m leadline` is the command `leadline`."""

from leadline.cli.main import main

main()

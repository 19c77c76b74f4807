"""`python -m pipelines`: the command line, where its script is not on the path."""

from pipelines.cli import main

main()

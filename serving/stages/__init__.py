"""The parts that a feed pipeline is made of, a kind a file: sources to selection."""

"""What happened (event log, catalog) and every number derived from it."""

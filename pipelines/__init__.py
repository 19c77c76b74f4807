"""The command line and the flows that run when nobody is waiting."""

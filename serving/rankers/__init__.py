"""The ranker behind one protocol: in this process, or a BentoML service over HTTP."""

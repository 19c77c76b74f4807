"""One ranked feed: stages, sources, filters, scorers, selection, decision record."""

"""Decision records: built from a decision, written after the response, sealed, found, erased."""

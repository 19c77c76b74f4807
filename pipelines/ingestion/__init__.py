"""From files to the event log and the catalog: readers, checks, rejects, adapters of known sets."""

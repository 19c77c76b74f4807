"""What all rooms agree on: ids, events, policy, decision record, degrade levels, errors. Pure."""

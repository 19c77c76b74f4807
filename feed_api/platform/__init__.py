"""The API for somebody else's back end: API keys, external ids, `/v1/platform/*`."""

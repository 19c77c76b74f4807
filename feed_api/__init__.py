"""The HTTP face: API keys, the platform API, errors, operations endpoints."""

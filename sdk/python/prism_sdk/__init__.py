"""Python SDK for Prism."""

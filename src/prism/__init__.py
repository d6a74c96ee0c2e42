"""Prism, an object data plane: see docs/architecture.md."""

__version__ = "0.1.0"

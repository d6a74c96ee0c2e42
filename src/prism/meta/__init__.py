"""Port 2, the catalog's ordered transactional key-value space: `Meta` is the front door, `open_meta` makes one from a URL.

A key is a tuple of str, int, bytes and bool elements whose first element names its partition; `tuples.py` encodes it so
that tuples sort as their elements do. Values are bytes (JSON by convention; counters are little-endian).
"""

"""Logical and physical keys: validation, layout, parsing, prefixes; nothing else formats a key.

A logical key is 1 to 1,024 bytes of UTF-8, any characters but NUL, as the user wrote it; it is never normalised. A physical
key is where its bytes lie in a namespace's store: unique per upload (it ends in `~{version id}`), never reused, readable in
front, and free of everything that a store or a filesystem mangles.
"""

"""Metadata and tags as Azure keeps them: names are identifiers there, and no more than 8 KiB go with a blob.

A name of Prism's is lower-case ASCII with `-` and `.`; what an identifier cannot hold is written `_` and two hex digits
(`prism-key`: `prism_2dkey`). Names that others gave come back as they are.
"""

import re
from collections.abc import Mapping

from .obstores import fitted

__all__ = ["UPLOAD_FIELD", "fields_of", "metadata_of", "tags_of"]

UPLOAD_FIELD = "prism_upload"
"""The field that names the upload in parts which made a blob. No name of Prism's metadata is written so."""
_MOST_BYTES = 8 * 2**10
_MOST_TAGS = 10
_UNFIT = re.compile(r"[^a-z0-9]|\A[0-9]")
_ESCAPED = re.compile(r"_([2-7][0-9a-f])")
_TAG_NAME = re.compile(r"[A-Za-z0-9 +\-./:=_]{1,128}\Z")
_TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,256}\Z")


def fields_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata as headers carry it; what does not fit is left away, Prism's own fields last."""
    ordered = sorted(metadata.items(), key=lambda field: not field[0].startswith("prism-"))
    return fitted({_identifier(name): value for name, value in ordered}, _MOST_BYTES)


def metadata_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Names as they were before `fields_of`; the values are plain already."""
    return {_name(field): value for field, value in fields.items() if field != UPLOAD_FIELD}


def tags_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that Azure takes: ten, of few characters."""
    fit = [(name, value) for name, value in tags.items() if _TAG_NAME.match(name) and _TAG_VALUE.match(value)]
    return dict(fit[:_MOST_TAGS])


def _identifier(name: str) -> str:
    return _UNFIT.sub(lambda unfit: "".join(f"_{byte:02x}" for byte in unfit[0].encode()), name)


def _name(field: str) -> str:
    name = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), field)
    return name if name == name.lower() and _identifier(name) == field else field

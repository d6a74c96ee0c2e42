"""XML as S3 speaks it: small documents written by hand, and bodies read with no DTD, entity or depth to exploit.

Keys may hold characters that XML 1.0 cannot; they are written as numeric references, as S3 does, and
`encoding-type=url` is the way round that its clients use. Reading keeps names, text and nesting, and drops attributes
and prefixes.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from xml.parsers import expat

from ..errors import ErrorCode, PrismError

__all__ = ["Element", "document", "element", "instant", "read"]

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_MAX_DEPTH = 8
_MAX_ELEMENTS = 10_000


def _reference(found: re.Match[str]) -> str:
    return _NAMED.get(found[0]) or f"&#x{ord(found[0]):X};"


def element(name: str, content: object) -> str:
    """`<name>content</name>`, the content escaped."""
    return f"<{name}>{_SPECIAL.sub(_reference, str(content))}</{name}>"


def document(name: str, parts: Iterable[str]) -> bytes:
    """A whole document of parts that are XML already, in S3's namespace; an error has none."""
    named = name if name == "Error" else f'{name} xmlns="{_NAMESPACE}"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{named}>{"".join(parts)}</{name}>'.encode()


def instant(when: datetime) -> str:
    """`2009-10-12T17:50:30.000Z`."""
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"


class Element:
    """One element of a body that was read."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def all(self, name: str) -> "list[Element]":
        """The children of this name."""
        return [child for child in self.children if child.name == name]

    def value(self, name: str) -> str | None:
        """The text of the one child of this name; None when there is none."""
        found = self.all(name)
        return found[0].text if len(found) == 1 else None


def read(body: bytes, root: str, most_elements: int = _MAX_ELEMENTS) -> Element:
    """The body's one element, which must be a `root`. INVALID_ARGUMENT (MalformedXML) for anything else."""
    reader = _Reader(most_elements)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise _malformed("the body is not well-formed XML") from error
    found = reader.top.children[0]
    if found.name != root:
        raise _malformed(f"the body is a {root}")
    return found


class _Reader:
    def __init__(self, most_elements: int) -> None:
        self.top = Element("")
        self._most_elements = most_elements
        self._open = [self.top]
        self._elements = 0

    def start(self, name: str, _attributes: object) -> None:
        self._elements += 1
        if len(self._open) > _MAX_DEPTH or self._elements > self._most_elements:
            raise _malformed("the body has too many elements")
        child = Element(name.rpartition(":")[2])
        self._open[-1].children.append(child)
        self._open.append(child)

    def end(self, _name: str) -> None:
        self._open.pop()

    def characters(self, text: str) -> None:
        self._open[-1].text += text

    def refuse(self, *_declaration: object) -> None:
        raise _malformed("the body declares a document type")


def _malformed(what: str) -> PrismError:
    return PrismError(ErrorCode.INVALID_ARGUMENT, what, context={"s3_code": "MalformedXML"})

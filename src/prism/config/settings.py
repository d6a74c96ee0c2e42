"""How settings are read: trees of given values, laid over each other, become frozen structs.

A `Tree` has sections as dicts and everything else as `Given`, a value that knows where it came from. `place` lays one
value into a tree by its path, `build` turns a tree into a struct. Every refusal is an INVALID_ARGUMENT that names the
key path, the value (never a secret's) and what is allowed. Nothing here knows a particular setting.
"""

import difflib
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from ..errors import ErrorCode, PrismError

__all__ = [
    "Given",
    "Reader",
    "Secret",
    "Settings",
    "Tree",
    "allowed",
    "expand",
    "lay",
    "names",
    "place",
    "refused",
    "section_of",
    "shown",
    "unknown",
]

_MAX_SECRET_BYTES = 65_536
_USERINFO = re.compile(r"//.*@", re.DOTALL)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every configuration type."""

    shorthand: ClassVar[str] = ""
    """The field that a plain value in place of the section stands for."""
    derived: ClassVar[frozenset[str]] = frozenset()
    """Fields that nobody gives."""


class Secret:
    """A value that hides itself: `repr`, `str` and formatting show stars, encoders refuse it, only `reveal` tells."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str) or not value:
            raise ValueError("a secret is text")
        self._value = value

    def reveal(self) -> str:
        """The value itself: for signing and logging in, never for showing."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)


class Given(msgspec.Struct, frozen=True):
    """A value as somebody gave it. `text`: it came as a string from a variable or the command line."""

    value: Any
    source: str
    text: bool = False


Tree = dict[str, Any]
"""Sections are dicts of the same kind, leaves are `Given`."""
T = TypeVar("T", bound=Settings)


def expand(cls: type[Settings], raw: Mapping[str, Any], source: str, at: str = "") -> Tree:
    """A tree of what a file holds, with shorthands written out."""
    fields = _fields(cls)
    tree: Tree = {}
    for key, value in raw.items():
        section = section_of(fields[key].type) if key in fields else None
        if section is None:
            tree[key] = Given(value, source)
        elif isinstance(value, Mapping):
            tree[key] = expand(section, value, source, _join(at, key))
        elif value is not None and section.shorthand:
            tree[key] = {section.shorthand: Given(value, source)}
        elif value is not None:
            raise refused(_join(at, key), Given(value, source), f"a section with {_listed(_fields(section))}")
    return tree


def place(cls: type[Settings], tree: Tree, path: Sequence[str], given: Given, at: str = "") -> None:
    """Lay one value over the tree by its key path."""
    name, rest = path[0], path[1:]
    fields = _fields(cls)
    section = section_of(fields[name].type) if name in fields else None
    if section is not None:
        inner = rest or (section.shorthand,)
        if not inner[0]:
            raise refused(_join(at, name), given, f"a section with {_listed(_fields(section))}")
        place(section, tree.setdefault(name, {}), inner, given, _join(at, name))
        return
    if rest or name not in names(cls):
        raise unknown(_join(at, ".".join(path)), given.source, name, names(cls))
    lay(tree, name, given)


def lay(tree: Tree, name: str, given: Given) -> None:
    """Lay a value over a section; of a secret and its `_env` and `_file` forms only the last one laid stays."""
    stem = re.sub(r"_(env|file)$", "", name)
    for other in (stem, f"{stem}_env", f"{stem}_file"):
        tree.pop(other, None)
    tree[name] = given


def names(cls: type[Settings]) -> set[str]:
    """What may stand in a section of this type: its fields, and `_env` and `_file` forms of its secrets."""
    known = set()
    for name, field in _fields(cls).items():
        known |= {name, f"{name}_env", f"{name}_file"} if _is_secret(field.type) else {name}
    return known - cls.derived


class Reader:
    """Builds structs; remembers in `sources` where each value came from."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.sources: dict[str, str] = {}

    def build(self, cls: type[T], tree: Tree, at: str = "", base: T | None = None, **ready: Any) -> T:
        """A struct from its tree; what is not given comes from `base` or the field's default, `ready` as it is."""
        fields = _fields(cls)
        known = names(cls)
        for key, given in tree.items():
            if key not in known:
                raise unknown(_join(at, key), given.source if isinstance(given, Given) else "", key, known)
        for field in [field for name, field in fields.items() if name not in ready]:
            value = self._field(field, tree, _join(at, field.name), base)
            if value is not msgspec.NODEFAULT:
                ready[field.name] = value
        return cls(**ready) if base is None else msgspec.structs.replace(base, **ready)

    def value(self, kind: Any, given: Given, at: str) -> Any:
        """One value of a type that is no section."""
        if given.source != "default":
            self.sources[at] = given.source
        return _convert(kind, given, at)

    def _field(self, field: msgspec.structs.FieldInfo, tree: Tree, at: str, base: Settings | None) -> Any:
        section = section_of(field.type)
        if section is not None:
            default = getattr(base, field.name, None) or field.default
            known = default if isinstance(default, section) else None
            return self.build(section, tree[field.name], at, known) if tree.get(field.name) else msgspec.NODEFAULT
        given = self._secret(field.name, tree, at) if _is_secret(field.type) else tree.get(field.name)
        if given is not None:
            return self.value(field.type, given, at)
        if field.required and base is None:
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT, f"{at} is missing; allowed: {allowed(field.type)}", context={"key": at}
            )
        return msgspec.NODEFAULT

    def _secret(self, name: str, tree: Tree, at: str) -> Given | None:
        """The value itself, or what the variable or the file holds that the setting names."""
        present = [key for key in (name, f"{name}_env", f"{name}_file") if key in tree]
        if not present:
            return None
        if len(present) > 1:
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT, f"{at} is given {len(present)} times: keep one of {', '.join(present)}"
            )
        given: Given = tree[present[0]]
        if present[0] == name:
            return given
        key = at[: -len(name)] + present[0]
        named = _convert(str, given, key)
        if present[0].endswith("_env"):
            if not self._environment.get(named):
                raise refused(key, given, "the name of a variable that is set and not empty")
            return Given(self._environment[named], f"{given.source}, variable {named}", text=True)
        return Given(_secret_file(named, key, given), f"{given.source}, file {named}", text=True)


def _secret_file(name: str, key: str, given: Given) -> str:
    try:
        with Path(name).open("rb") as file:
            raw = file.read(_MAX_SECRET_BYTES + 1)
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise refused(key, given, f"a readable file ({why})") from None
    if not text or len(raw) > _MAX_SECRET_BYTES:
        raise refused(key, given, f"a file of 1 to {_MAX_SECRET_BYTES} bytes")
    return text


def refused(at: str, given: Given, what: str, *, hidden: bool = False) -> PrismError:
    """The error for a value that is not allowed."""
    value = "a value" if hidden else shown(given.value)
    return PrismError(
        ErrorCode.INVALID_ARGUMENT, f"{at}: got {value} ({given.source}); allowed: {what}", context={"key": at}
    )


def unknown(at: str, source: str, key: str, known: Iterable[str]) -> PrismError:
    """The error for a key that does not exist, with the likely one; its value is not shown, it may be a secret's."""
    names = sorted(known)
    close = difflib.get_close_matches(str(key), names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(names)}"
    where = f" ({source})" if source else ""
    return PrismError(ErrorCode.INVALID_ARGUMENT, f"{at} is no setting{where}; {hint}", context={"key": at})


def shown(value: object) -> str:
    """A value for a message or a table: short, without a password that stands in a URL."""
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    text = _USERINFO.sub("//***@", text)
    return text if len(text) <= 120 else f"{text[:119]}…"


def allowed(annotation: Any) -> str:
    """In words, what a field of this type takes."""
    return _words(inspect.type_info(annotation))


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(extra={"allowed": str(words)}):
            return words
        case inspect.Metadata(type=inner):
            return _words(inner)
        case inspect.UnionType(types=kinds):
            return " or ".join(_words(one) for one in kinds)
        case inspect.IntType(ge=low, le=high):
            return f"a whole number{_bounds(low, high)}"
        case inspect.FloatType(ge=low, le=high):
            return f"a number{_bounds(low, high)}"
        case inspect.StrType(min_length=low, max_length=high):
            return f"text{_bounds(low, high)}{' characters' if high else ''}"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.VarTupleType(item_type=item):
            return f"a list, each {_words(item)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.CustomType(cls=cls) if cls is Path:
            return "a path"
        case _:
            return "text"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f" of at least {low}" if high is None else f" from {low or 0} to {high}"


def _convert(annotation: Any, given: Given, at: str) -> Any:
    value = given.value
    if given.text and isinstance(value, str) and any(get_origin(kind) is tuple for kind in _plain(annotation)):
        value = [part for part in re.split(r"[,\s]+", value) if part]
    try:
        return msgspec.convert(value, annotation, strict=not given.text, dec_hook=_custom)
    except msgspec.ValidationError:
        quotes = "; put it in quotes" if isinstance(value, int | float) and _is_text(annotation) else ""
        raise refused(at, given, f"{allowed(annotation)}{quotes}", hidden=_is_secret(annotation)) from None


def _custom(kind: type, value: Any) -> Any:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"not a {kind.__name__}")
    return kind(value)


def _fields(cls: type[Settings]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(cls)}


def _plain(annotation: Any) -> list[Any]:
    """The alternatives of a type, without annotations and None."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [kind for part in get_args(annotation) for kind in _plain(part)]
    return [] if annotation is type(None) else [annotation]


def section_of(annotation: Any) -> type[Settings] | None:
    """The section that a field of this type is; None for a plain value."""
    kinds = _plain(annotation)
    return kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], Settings) else None


def _is_text(annotation: Any) -> bool:
    return any(kind in {str, Secret, Path} for kind in _plain(annotation))


def _is_secret(annotation: Any) -> bool:
    return any(kind is Secret or Secret in get_args(kind) for kind in _plain(annotation))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else str(name)

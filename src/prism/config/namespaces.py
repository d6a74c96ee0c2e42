"""The `namespaces:` list: from what a file and variables say to `NamespaceConfig`s with their stores.

An item and its `config:` are one flat set of settings, so the backend's and the namespace's own may stand in either,
once. A variable addresses a namespace by its name with `-` and `.` written as `_`, for example
`PRISM_NAMESPACES__USER_UPLOADS__BUCKET`; variables change namespaces, they never add one.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ErrorCode, PrismError
from .settings import Given, Reader, Settings, Tree, lay, names, refused, unknown
from .stores import STORES, with_endpoint
from .types import NamespaceConfig

__all__ = ["NamespaceTrees", "embedded"]

_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_NAME_ALLOWED = "1 to 63 of a-z 0-9 with single . _ - between"
_FOLDED = str.maketrans("-.", "__")
_OBJECTSTORE = {
    "PRISM_OBJECTSTORE_ENDPOINT": "endpoint",
    "PRISM_OBJECTSTORE_ACCESS_KEY": "access_key",
    "PRISM_OBJECTSTORE_SECRET_KEY": "secret_key",
}


def embedded() -> list[dict[str, Any]]:
    """The namespaces of a start without any."""
    return [
        {"name": "user-uploads", "backend": "local", "bucket": "prism-objects", "default_ttl_seconds": 7_776_000},
        {"name": "build-artifacts", "backend": "local", "bucket": "prism-builds", "default_ttl_seconds": 2_592_000},
        {"name": "matyan-artifacts", "backend": "local", "bucket": "matyan-artifacts"},
    ]


class NamespaceTrees:
    """The settings of each namespace by name, before they are checked."""

    def __init__(self, listed: Any, source: str) -> None:
        self._trees: dict[str, Tree] = {}
        if not isinstance(listed, list) or not listed:
            raise refused("namespaces", Given(listed, source), "a list of at least one namespace", hidden=True)
        for number, item in enumerate(listed):
            name, tree = _flat(item, f"namespaces[{number}]", source)
            if name in self._trees:
                raise PrismError(
                    ErrorCode.INVALID_ARGUMENT, f"namespaces: {name!r} stands in the list twice ({source})"
                )
            self._trees[name] = tree

    def place(self, keys: Sequence[str], given: Given) -> None:
        """Lay a value over one namespace: name, an optional `config`, key."""
        tree = self._trees[self._addressed(keys[0] if keys else "", given)]
        inner = keys[2:] if keys[1:2] == ["config"] else keys[1:]
        if len(inner) != 1 or inner[0] == "name":
            raise unknown(
                f"namespaces.{'.'.join(keys)}", given.source, inner[0] if inner else "", _any_key() - {"name"}
            )
        lay(tree, inner[0], given)

    def apply_objectstore_variables(self, environment: Mapping[str, str]) -> None:
        """`PRISM_OBJECTSTORE_*` override every `minio` namespace, save where a variable names the very setting."""
        for tree in self._trees.values():
            backend = tree.get("backend")
            for variable, key in _OBJECTSTORE.items() if backend and backend.value == "minio" else ():
                forms = [tree[form] for form in (key, f"{key}_env", f"{key}_file") if form in tree]
                if environment.get(variable) and not any(given.text for given in forms):
                    lay(tree, key, Given(environment[variable], f"variable {variable}", text=True))

    def build(self, reader: Reader, data_dir: Path, run_namespace: str) -> tuple[NamespaceConfig, ...]:
        """The namespaces, in the order of the list."""
        for name, tree in self._trees.items():
            if name == run_namespace and not tree.keys() & {"default_ttl_seconds", "no_expiration_default"}:
                tree["no_expiration_default"] = tree["allow_infinite_ttl"] = Given(True, "runs.namespace")
        return tuple(_namespace(reader, name, tree, data_dir) for name, tree in self._trees.items())

    def _addressed(self, segment: str, given: Given) -> str:
        if segment in self._trees:
            return segment
        meant = [name for name in self._trees if name.translate(_FOLDED) == segment.translate(_FOLDED)]
        if len(meant) == 1:
            return meant[0]
        if meant:
            what = f"{' and '.join(meant)} are written alike in a variable; set it in the file instead"
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"namespaces.{segment} ({given.source}): {what}")
        raise unknown(f"namespaces.{segment}", given.source, segment, self._trees)


def _flat(item: Any, at: str, source: str) -> tuple[str, Tree]:
    """The name of a list item, and it and its `config:` as one tree."""
    if not isinstance(item, Mapping):
        raise refused(at, Given(item, source), "a mapping with name, backend and config", hidden=True)
    name = item.get("name")
    if not isinstance(name, str) or len(name) > 63 or not _NAME.fullmatch(name):
        raise refused(f"{at}.name", Given(name, source), _NAME_ALLOWED)
    inner = item.get("config")
    if not isinstance(inner, Mapping | None):
        raise refused(f"namespaces.{name}.config", Given(inner, source), "a mapping", hidden=True)
    outer = {key: value for key, value in item.items() if key not in {"name", "config"}}
    twice = sorted(map(str, outer.keys() & (inner or {}).keys()))
    if twice:
        what = f"{twice[0]} stands beside config and in it: keep one"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"namespaces.{name}: {what} ({source})")
    return name, {key: Given(value, source) for key, value in {**outer, **(inner or {})}.items()}


def _namespace(reader: Reader, name: str, tree: Tree, data_dir: Path) -> NamespaceConfig:
    at = f"namespaces.{name}"
    backend = _backend(reader, tree, at)
    kind = STORES[backend]
    _check_keys(kind, backend, tree, at)
    if backend == "local":
        tree.setdefault("root", Given(str(data_dir / "blobs" / name), "default"))
    if backend in {"local", "memory"}:
        tree.setdefault("bucket", Given(name, "default"))
    _default_key_pair(name, tree, at)
    own = {key: given for key, given in tree.items() if key in names(kind)}
    common = {key: given for key, given in tree.items() if key in names(NamespaceConfig)}
    store = with_endpoint(reader.build(kind, own, at), backend, at)
    return reader.build(NamespaceConfig, common, at, name=name, store=store)


def _backend(reader: Reader, tree: Tree, at: str) -> str:
    allowed = f"one of {', '.join(STORES)}"
    if "backend" not in tree:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}.backend is missing; allowed: {allowed}")
    given: Given = tree["backend"]
    if not isinstance(given.value, str) or given.value not in STORES:
        raise refused(f"{at}.backend", given, allowed)
    return given.value


def _check_keys(kind: type[Settings], backend: str, tree: Tree, at: str) -> None:
    known = (names(NamespaceConfig) - {"name"}) | names(kind)
    for key, given in tree.items():
        if key in known:
            continue
        if key in _any_key():
            what = (
                f"{at}.{key} is no setting of backend {backend} ({given.source}); allowed: {', '.join(sorted(known))}"
            )
            raise PrismError(ErrorCode.INVALID_ARGUMENT, what, context={"key": f"{at}.{key}"})
        raise unknown(f"{at}.{key}", given.source, key, known)


def _default_key_pair(name: str, tree: Tree, at: str) -> None:
    """The embedded pair of Prism's own S3 endpoint, unless one is given; half a pair is refused."""
    secret = any(key in tree for key in ("s3_secret", "s3_secret_env", "s3_secret_file"))
    if secret != ("s3_access_key" in tree):
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, f"{at}: s3_access_key and s3_secret are given together or not at all"
        )
    if not secret:
        tree["s3_access_key"] = Given(name, "default")
        tree["s3_secret"] = Given(f"prism-local-{name}", "default")


def _any_key() -> set[str]:
    return set().union(names(NamespaceConfig), *(names(kind) for kind in STORES.values()))

"""From file, environment and command line to a `Config`: what overrides what, and what follows from what.

Later wins: embedded default, file, `PRISM_OBJECTSTORE_*` (for `minio` namespaces), `PRISM_` variables whose name has a
double underscore, command line. Other variables are none of Prism's business.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ErrorCode, PrismError
from .checks import check
from .namespaces import NamespaceTrees, embedded
from .settings import Given, Reader, Tree, expand, place
from .stores import split_password
from .types import Config, RunsConfig
from .yamlfile import read_yaml

__all__ = ["load"]

_PREFIX = "PRISM_"


def load(
    path: Path | None,
    environment: Mapping[str, str],
    *,
    data_dir: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Config:
    """The effective configuration. `overrides` are the command line's, by key path (`server.grpc.address`).

    Raises INVALID_ARGUMENT naming the key, the value (never a secret's) and what is allowed.
    """
    source = f"file {path}"
    raw = read_yaml(path) if path else {}
    listed = raw.pop("namespaces", None)
    spaces = NamespaceTrees(embedded() if listed is None else listed, "embedded" if listed is None else source)
    tree = expand(Config, raw, source)
    for variable, keys in _settings_in(environment):
        given = Given(environment[variable], f"variable {variable}", text=True)
        _place(tree, spaces, keys, given)
    for at, value in (overrides or {}).items():
        _place(tree, spaces, at.split("."), Given(value, "command line", text=True))
    spaces.apply_objectstore_variables(environment)
    if data_dir is not None:
        tree["data_dir"] = Given(str(data_dir), "command line")
    return _built(tree, spaces, environment)


def _built(tree: Tree, spaces: NamespaceTrees, environment: Mapping[str, str]) -> Config:
    reader = Reader(environment)
    given = tree.get("data_dir", Given("prism-data", "default"))
    data_dir = reader.value(Path, given, "data_dir").absolute()
    tree["data_dir"] = Given(str(data_dir), given.source)
    tree.setdefault("meta", {}).setdefault("url", Given(f"sqlite:///{data_dir}/catalog.sqlite", "default"))
    tree.setdefault("audit", {}).setdefault("path", Given(str(data_dir / "audit.jsonl"), "default"))
    for section in ("meta", "bus"):
        split_password(tree.get(section, {}), section)
    runs = tree.get("runs", {}).get("namespace", Given(RunsConfig().namespace, "default"))
    namespaces = spaces.build(reader, data_dir, runs.value)
    config = reader.build(Config, tree, namespaces=namespaces, sources=reader.sources)
    check(config)
    return config


def _place(tree: Tree, spaces: NamespaceTrees, keys: Sequence[str], given: Given) -> None:
    if keys[0] == "namespaces":
        spaces.place(keys[1:], given)
    else:
        place(Config, tree, keys, given)


def _settings_in(environment: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The variables that are settings, with their key paths; an empty one counts as not set."""
    found: dict[tuple[str, ...], str] = {}
    for variable in sorted(environment):
        if not variable.startswith(_PREFIX) or "__" not in variable[len(_PREFIX) :] or not environment[variable]:
            continue
        keys = tuple(variable[len(_PREFIX) :].lower().split("__"))
        if keys in found:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{found[keys]} and {variable} are the same setting: keep one")
        found[keys] = variable
    return [(variable, list(keys)) for keys, variable in found.items()]

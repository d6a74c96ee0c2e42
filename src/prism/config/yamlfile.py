"""Read a YAML file of settings so that nothing in it surprises or harms.

Plain data only (no tags that build objects), no key twice, bounded size, depth and expansion of aliases. Words are read
as YAML 1.2 reads them: only `true` and `false` are booleans, only plain decimal digits are whole numbers; `no`, `on`,
`010`, `12:30` and dates stay text. Errors name the line, never quote the file: a secret may stand in that line.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import ErrorCode, PrismError

__all__ = ["read_yaml"]

_MAX_BYTES = 1_048_576
_MAX_DEPTH = 32
_MAX_NODES = 50_000
_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that the file holds; an empty file is an empty mapping. INVALID_ARGUMENT says what is wrong where."""
    text = _text(path)
    try:
        loaded = _load(text)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _refused(path, f"is not valid YAML{where}: {_quoteless(exc.problem or exc.context or '')}") from None
    except yaml.YAMLError:
        raise _refused(path, "is not valid YAML: it holds characters that YAML does not allow") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise _refused(path, "must hold a mapping of settings (`key: value` lines) at its top")
    return loaded


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise _refused(path, f"cannot be read: {exc.strerror}") from exc
    if len(raw) > _MAX_BYTES:
        raise _refused(path, f"is larger than {_MAX_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _refused(path, f"is not UTF-8 (byte {exc.start})") from None


def _refused(path: Path, why: str) -> PrismError:
    return PrismError(ErrorCode.INVALID_ARGUMENT, f"configuration file {str(path)!r} {why}")


def _quoteless(problem: str) -> str:
    """Only the wording of the parser's complaint; what it quotes comes from the file."""
    return re.sub(r"'[^']*'", "…", problem)


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _weigh(root, {})
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _weigh(node: yaml.Node, weights: dict[int, int]) -> int:
    """The node's size with all aliases written out; refuses recursion and more than `_MAX_NODES`."""
    known = weights.get(id(node))
    if known is not None:
        if not known:
            raise yaml.MarkedYAMLError(problem="an alias refers to what contains it", problem_mark=node.start_mark)
        return known
    weights[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    total = 1 + sum(_weigh(child, weights) for child in children)
    if total > _MAX_NODES:
        raise yaml.MarkedYAMLError(
            problem=f"with aliases written out there are more than {_MAX_NODES} values", problem_mark=node.start_mark
        )
    weights[id(node)] = total
    return total


class _Loader(yaml.SafeLoader):
    """The safe loader, bounded in depth, strict about keys and plain about words."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_MAX_DEPTH} levels", problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem="the same key stands here twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=True)

    def construct_boolean(self, node: yaml.ScalarNode) -> bool | str:
        return node.value.lower() == "true" if node.value.lower() in {"true", "false"} else str(node.value)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int | str:
        return int(node.value) if _WHOLE_NUMBER.fullmatch(node.value) else str(node.value)

    def construct_number(self, node: yaml.ScalarNode) -> float | str:
        return str(node.value) if ":" in node.value else super().construct_yaml_float(node)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:bool", _Loader.construct_boolean)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_text)

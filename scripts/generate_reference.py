"""Write docs/reference/configuration.md from the types of prism.config; with --check, say whether it is current."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from pages import keep_current

from prism.config import types
from prism.config.namespaces import embedded
from prism.config.settings import Secret, Settings, allowed, names, section_of

REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"
HEAD = """# Configuration

*Made from the types in `src/prism/config/types.py` by `scripts/generate_reference.py`; do not edit.*

`prism serve --config FILE` reads YAML; without a file everything has a default. `prism config check` shows the
effective configuration and where each value came from. A key that is not listed here, a value that is not allowed or
an unsafe combination stops the start with one message that names it.

**What overrides what.** Default, then file, then variables, then the command line.

**Variables.** A setting's variable is `PRISM_` and its key path joined by two underscores: `PRISM_META__URL`,
`PRISM_SERVER__HTTP__PUBLIC_URL`, `PRISM_AUTH__MODE`. A variable without two underscores is never a setting, and an
empty one counts as not set. Lists are separated by commas. A namespace is addressed by its name, `-` and `.` written
as `_`: `PRISM_NAMESPACES__USER_UPLOADS__BUCKET`; when two names are then written alike the variable is refused.
Variables change namespaces, they do not add any. `PRISM_OBJECTSTORE_ENDPOINT`, `PRISM_OBJECTSTORE_ACCESS_KEY` and
`PRISM_OBJECTSTORE_SECRET_KEY` override those three settings of every namespace with `backend: minio`.

**Secrets.** Every setting marked *secret* may instead be named: `secret_key_env: VARIABLE` or `secret_key_file: PATH`
(also as a variable: `PRISM_NAMESPACES__USER_UPLOADS__SECRET_KEY_FILE`). Secrets are never shown.

**YAML.** Only `true` and `false` are booleans and only plain decimal digits are whole numbers; `no`, `on`, `0600`,
`1:30` and dates are text. The same key twice is refused; so is a file above 1 MiB.

**Refused together.** An address other than loopback without `auth`; `cors_origins: ["*"]` without `auth`; two
namespaces whose bytes would lie in the same folder, bucket or prefix; a folder of blobs that contains the catalog or
the audit file; one access key for two namespaces; `no_expiration_default` without `allow_infinite_ttl`; a replay
horizon that is not longer than the retention of messages.
"""


def main() -> int:
    return keep_current(REFERENCE, reference(), __doc__)


def reference() -> str:
    """The whole page."""
    prose = _prose()
    parts = [HEAD, *_section(types.Config, "Top level", "", prose, _top_level())]
    shared = set(types.NamespaceConfig.__struct_fields__)
    parts += _section(types.NamespaceConfig, "namespaces", "namespaces.NAME.", prose, names(types.NamespaceConfig))
    parts += ["Without a list there are these:\n", "```yaml", *_embedded(), "```\n"]
    for store in (types.LocalStore, types.MemoryStore, types.S3Store, types.GCSStore, types.AzureStore):
        own = set(store.__struct_fields__) - shared
        parts += _section(store, store.__name__, "namespaces.NAME.", prose, own, level=3)
    for name, section in _sections(types.Config):
        parts += _section(section, name, f"{name}.", prose, set(section.__struct_fields__))
    return "\n".join(parts).rstrip() + "\n"


def _section(
    cls: type[Settings], title: str, at: str, prose: dict[str, dict[str, str]], shown: set[str], level: int = 2
) -> list[str]:
    lines = [f"{'#' * level} {title}\n", f"{prose[cls.__name__]['']}\n"]
    rows = list(_rows(cls, at, prose, shown))
    return [*lines, "| key | allowed | default | meaning |", "|---|---|---|---|", *rows, ""] if rows else lines


def _rows(cls: type[Settings], at: str, prose: dict[str, dict[str, str]], shown: set[str]) -> Iterator[str]:
    for field in msgspec.structs.fields(cls):
        if field.name not in shown:
            continue
        section = section_of(field.type)
        told = next((text for kind in cls.__mro__ if (text := prose.get(kind.__name__, {}).get(field.name))), "")
        meaning = " ".join(told.split())
        if section is not None:
            for inner in msgspec.structs.fields(section):
                default = getattr(field.default, inner.name, inner.default)
                text = " ".join(prose[section.__name__][inner.name].split())
                text = f"{meaning} {text}" if inner.name == section.shorthand else text
                yield _row(f"{at}{field.name}.{inner.name}", inner.type, default, text)
        else:
            yield _row(f"{at}{field.name}", field.type, field.default, meaning)


def _row(at: str, annotation: Any, default: Any, meaning: str) -> str:
    words = f"*secret*, {allowed(annotation)}" if Secret.__name__ in str(annotation) else allowed(annotation)
    return f"| `{at}` | {words} | {_default(default)} | {meaning} |"


def _default(value: Any) -> str:
    if value is msgspec.NODEFAULT or value == "":
        return "–"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "empty" if value == () else f"`{value}`"


def _top_level() -> set[str]:
    return names(types.Config) - {name for name, _ in _sections(types.Config)} - {"namespaces"}


def _sections(cls: type[Settings]) -> list[tuple[str, type[Settings]]]:
    found = ((field.name, section_of(field.type)) for field in msgspec.structs.fields(cls))
    return [(name, section) for name, section in found if section is not None]


def _embedded() -> Iterator[str]:
    yield "namespaces:"
    for space in embedded():
        yield f"  - {{{', '.join(f'{key}: {value}' for key, value in space.items())}}}"


def _prose() -> dict[str, dict[str, str]]:
    """By class and field, the text that stands below it in the source; a class's own under the empty name."""
    found = {}
    for node in ast.parse(inspect.getsource(types)).body:
        if isinstance(node, ast.ClassDef):
            texts = {"": ast.get_docstring(node) or ""}
            for line, below in zip(node.body, node.body[1:], strict=False):
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and _is_text(below):
                    texts[line.target.id] = below.value.value  # type: ignore[attr-defined]  # _is_text says so
            found[node.name] = texts
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


if __name__ == "__main__":
    sys.exit(main())

"""Write the gRPC stubs of proto/ into the SDK; with --check, say whether they are current.

The stubs live in `sdk/python/prism_sdk/stubs`, under a package of their own, so that they clash with nobody else's
`prism.objectstore`; the server uses the same ones. They are never edited.
"""

import argparse
import filecmp
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PROTO = ROOT / "proto"
STUBS = ROOT / "sdk" / "python" / "prism_sdk" / "stubs"
PACKAGE = "prism_sdk.stubs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the stubs are not current")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        generate(made)
        if check:
            return report(made)
        for path in sorted(made.rglob("*.py*")):
            target = STUBS / path.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return 0


def generate(made: Path) -> None:
    """Run protoc and move the modules' imports into the stubs' package."""
    protos = sorted(str(path) for path in PROTO.rglob("*.proto"))
    include = str(resources.files("grpc_tools") / "_proto")
    options = [f"--python_out={made}", f"--pyi_out={made}", f"--grpc_python_out={made}"]
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{include}", *options, *protos]) != 0:
        raise SystemExit("protoc failed, see above")
    for path in made.rglob("*.py"):
        text = path.read_text()
        path.write_text(re.sub(r"^from prism\.", f"from {PACKAGE}.prism.", text, flags=re.MULTILINE))
    for folder in {path.parent for path in made.rglob("*.py")} | {made, made / "prism"}:
        (folder / "__init__.py").touch()


def report(made: Path) -> int:
    """Name what differs between the stubs in the tree and fresh ones."""
    fresh = {path.relative_to(made) for path in made.rglob("*.py*")}
    there = {path.relative_to(STUBS) for path in STUBS.rglob("*.py*") if "__pycache__" not in path.parts}
    stale = [
        str(name)
        for name in sorted(fresh | there)
        if name not in fresh or name not in there or not filecmp.cmp(made / name, STUBS / name, shallow=False)
    ]
    for name in stale:
        print(f"{STUBS.relative_to(ROOT) / name} is not current: run `make stubs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What lies below a local store's folder."""

from pathlib import Path

__all__ = ["files_below"]


def files_below(root: Path) -> list[str]:
    """Every file's path within the folder, sorted."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())

"""What a bucket of Google Cloud Storage does by itself, read from its resource.

Buckets keep deleted bytes for a week (soft delete) unless they are told otherwise, parts of uploads too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .driver import BucketSettings

__all__ = ["settings_of"]


def settings_of(bucket: Mapping[str, Any], parts_folder: str) -> BucketSettings:
    """The settings in a bucket's resource; `parts_folder` is where parts of uploads lie."""
    rules: Sequence[Mapping[str, Any]] = bucket.get("lifecycle", {}).get("rule", ())
    clearing = [rule for rule in rules if _names_only(rule, parts_folder)]
    days = [rule["condition"]["age"] for rule in clearing if "age" in rule["condition"]]
    others = [rule for rule in rules if rule not in clearing]
    kinds = {rule.get("action", {}).get("type") for rule in others}
    return BucketSettings(
        versioning=bool(bucket.get("versioning", {}).get("enabled")),
        object_lock="retentionPolicy" in bucket or "objectRetention" in bucket,
        soft_delete_seconds=int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)),
        expires_objects=bool(kinds & {"Delete", "SetStorageClass"}),
        aborts_uploads_days=min(days, default=0),
    )


def _names_only(rule: Mapping[str, Any], folder: str) -> bool:
    """Whether a rule deletes below the folder alone."""
    prefixes = rule.get("condition", {}).get("matchesPrefix") or [""]
    return rule.get("action", {}).get("type") == "Delete" and all(prefix.startswith(folder) for prefix in prefixes)

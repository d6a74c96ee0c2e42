"""What an S3 bucket does with bytes by itself: versions, locks, lifecycle rules. What nobody lets us ask is unknown."""

from typing import Any

from ..errors import PrismError
from .driver import BucketSettings, NotFound
from .s3_requests import Requests, StoreAnswered

__all__ = ["settings"]

_NONE_SET = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchLifecycleConfiguration"})


async def settings(requests: Requests) -> BucketSettings:
    """The bucket's settings now."""
    versioning = await _ask(requests, "get_bucket_versioning")
    lock = await _ask(requests, "get_object_lock_configuration")
    lifecycle = await _ask(requests, "get_bucket_lifecycle_configuration")
    rules = None if lifecycle is None else [rule for rule in lifecycle.get("Rules", ()) if _is_on(rule)]
    return BucketSettings(
        versioning=None if versioning is None else versioning.get("Status") == "Enabled",
        object_lock=None if lock is None else bool(lock.get("ObjectLockConfiguration")),
        soft_delete_seconds=0,
        expires_objects=None if rules is None else any(map(_touches_objects, rules)),
        aborts_uploads_days=None if rules is None else _aborts_after(rules),
    )


async def _ask(requests: Requests, operation: str) -> Any:
    try:
        return await requests.ask(operation, _NONE_SET)
    except (StoreAnswered, NotFound):
        return {}
    except PrismError:
        return None


def _is_on(rule: Any) -> bool:
    return bool(rule.get("Status") == "Enabled")


def _touches_objects(rule: Any) -> bool:
    expiration = rule.get("Expiration", {})
    return "Days" in expiration or "Date" in expiration or bool(rule.get("Transitions"))


def _aborts_after(rules: list[Any]) -> int:
    """Only a rule for the whole bucket counts."""
    days = [
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        for rule in rules
        if "AbortIncompleteMultipartUpload" in rule and not _is_narrow(rule)
    ]
    return min(days, default=0)


def _is_narrow(rule: Any) -> bool:
    narrow = rule.get("Filter", {})
    return bool(rule.get("Prefix") or any(narrow.values()))

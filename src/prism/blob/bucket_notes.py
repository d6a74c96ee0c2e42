"""What a bucket does with bytes by itself that operators should know of, in sentences, for the start and `doctor`."""

import msgspec

from .driver import BucketSettings

__all__ = ["Note", "deletes_itself", "keeps_deleted"]


class Note(msgspec.Struct, frozen=True):
    """One finding, and what to do about it."""

    said: str
    advice: str


def keeps_deleted(settings: BucketSettings) -> list[Note]:
    """Why deletions free nothing, or fail."""
    notes = []
    if settings.versioning:
        notes.append(
            Note("the bucket keeps versions of its own, so deletions free nothing", "switch its versioning off")
        )
    if settings.object_lock:
        notes.append(Note("the bucket locks objects, so deletions may fail", "use a bucket without object lock"))
    if settings.soft_delete_seconds:
        days = settings.soft_delete_seconds / 86400
        notes.append(Note(f"deleted bytes are kept and charged for {days:g} days", "switch soft delete off"))
    return notes


def deletes_itself(settings: BucketSettings) -> list[Note]:
    """Why bytes may vanish behind Prism's back."""
    if not settings.expires_objects:
        return []
    advice = "remove it: Prism expires objects to the second, and must not find bytes gone"
    return [Note("a rule of the bucket deletes or moves objects by itself", advice)]

"""`prism objectstore …`: the object API from a shell, over the SDK.

Files go straight to the store and come straight from it, several parts at a time, and go on after an interruption; `-`
means standard input or output, streamed through Prism. What is fetched into a file appears whole or not at all. The
server is named by `PRISM_ENDPOINT`, the credential by `PRISM_API_KEY`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, TypedDict, cast

import typer

from .arguments import metadata_of, seconds_of
from .output import Failure, Format, OutputOption, failures, show, show_rows, sized
from .progress import progress

if TYPE_CHECKING:
    from prism_sdk import ListedObject, PrismClient, PutResult

__all__ = ["commands"]

commands = typer.Typer(no_args_is_help=True, help="Put, get, list, copy, delete and share objects.")

_PIECE_BYTES = 1 << 20
Namespace = Annotated[str, typer.Argument(help="The namespace, for example user-uploads.")]
Key = Annotated[str, typer.Argument(help="The object's key.")]
Bucket = Annotated[str, typer.Option(help="Another bucket than the namespace's own.")]
Endpoint = Annotated[
    str | None,
    typer.Option(envvar="PRISM_ENDPOINT", show_envvar=True, help="host:port of the server (localhost:50051)."),
]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="NAME=VALUE", help="May be given repeatedly.")
]
TTL = Annotated[
    str | None,
    typer.Option("--ttl", metavar="DURATION", help="Lives so long: 90s, 15m, 12h, 7d, 2w. Else: the default."),
]
NoExpiration = Annotated[bool, typer.Option("--no-expiration", help="Lives until deleted, where that is allowed.")]
IfMatch = Annotated[
    list[str] | None, typer.Option("--if-match", metavar="ETAG", help="Only while this etag is current; '*': any.")
]
IfNoneMatch = Annotated[
    list[str] | None, typer.Option("--if-none-match", metavar="ETAG", help="Only while it is not; '*': nothing there.")
]


ShowProgress = Annotated[
    bool, typer.Option("--progress/--no-progress", help="A bar, where standard error is a terminal.")
]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="So many parts of a file at a time.")]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on where an interrupted transfer of the same file stopped.")
]


def client(namespace: str, endpoint: str | None) -> "PrismClient":
    """A client; the SDK is loaded only now."""
    from prism_sdk import PrismClient

    return PrismClient(namespace, endpoint=endpoint)


class _PutOptions(TypedDict):
    metadata: Mapping[str, str] | None
    ttl_seconds: int | None
    no_expiration: bool
    if_match: list[str] | None
    if_none_match: list[str] | None


@commands.command()
def put(
    namespace: Namespace,
    key: Key,
    file: Annotated[str, typer.Argument(help="The file; - for standard input.")],
    bucket: Bucket = "",
    content_type: Annotated[str | None, typer.Option(help="Else: what the file's name suggests.")] = None,
    metadata: Metadata = None,
    ttl: TTL = None,
    no_expiration: NoExpiration = False,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    parallel: Parallel = 4,
    resume: Resume = True,
    show_progress: ShowProgress = True,
    endpoint: Endpoint = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Store a file as an object; done when it is durable."""
    options = _PutOptions(
        metadata=metadata_of(metadata),
        ttl_seconds=None if ttl is None else seconds_of(ttl),
        no_expiration=no_expiration,
        if_match=if_match,
        if_none_match=if_none_match,
    )
    with failures(), client(namespace, endpoint) as prism:
        if file == "-":
            result = prism.put_object(bucket, key, _standard_input(), content_type, **options)
        else:
            _check_file(file)
            with progress(Path(file).name, wanted=show_progress) as moved:
                result = _put_file(prism, bucket, key, file, content_type, options, parallel, resume, moved)
        show(result, output, f"{key}: {sized(result.size_bytes)}, etag {result.etag}, {_until(result.expires_at)}")


@commands.command()
def get(
    namespace: Namespace,
    key: Key,
    file: Annotated[str, typer.Argument(help="Where to; - for standard output. Else: the key's last part.")] = "",
    bucket: Bucket = "",
    range_start: Annotated[int | None, typer.Option(min=0, help="First byte.")] = None,
    range_end: Annotated[int | None, typer.Option(min=0, help="Last byte, which is included.")] = None,
    parallel: Parallel = 4,
    resume: Resume = True,
    show_progress: ShowProgress = True,
    endpoint: Endpoint = None,
) -> None:
    """Fetch an object into a file, or to standard output."""
    target = file or key.rstrip("/").rpartition("/")[2]
    ranged = range_start is not None or range_end is not None
    if ranged and target != "-":
        raise typer.BadParameter("a range goes to standard output: name - as the file")
    with failures(), client(namespace, endpoint) as prism:
        if target == "-":
            with prism.get_object(bucket, key, range_start, range_end) as opened:
                for piece in opened.stream():
                    sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        with progress(target, wanted=show_progress) as moved:
            info = prism.download_file(bucket, key, target, parallel=parallel, progress=moved, resume=resume)
        print(f"{target}: {sized(info.size_bytes)}", file=sys.stderr)


@commands.command()
def head(
    namespace: Namespace,
    key: Key,
    bucket: Bucket = "",
    endpoint: Endpoint = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """What is known of an object, without its bytes."""
    with failures(), client(namespace, endpoint) as prism:
        info = prism.head_object(bucket, key)
        lines = [
            f"size          {info.size_bytes} bytes",
            f"content type  {info.content_type}",
            f"etag          {info.etag}",
            f"modified      {info.last_modified:%Y-%m-%dT%H:%M:%SZ}",
            f"lifetime      {_until(info.expires_at)}",
            *(f"metadata      {name}={value}" for name, value in sorted(info.metadata.items())),
        ]
        show(info, output, "\n".join(lines))


@commands.command("list")
def list_objects(
    namespace: Namespace,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    delimiter: Annotated[
        str, typer.Option(help="Keys that have it after the prefix are shown as one, as folders.")
    ] = "",
    expiring_within: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only what expires within 7d, 12h …, soonest first.")
    ] = None,
    bucket: Bucket = "",
    endpoint: Endpoint = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """List objects in the order of their keys: key, size, time, content type, separated by tabs."""
    if expiring_within is not None and (prefix or delimiter or bucket):
        raise typer.BadParameter("--expiring-within looks at the whole namespace; leave the other filters out")
    within = None if expiring_within is None else seconds_of(expiring_within)
    with failures(), client(namespace, endpoint) as prism:
        if within is not None:
            columns = ("bucket", "key", "size_bytes", "expires_at")
            show_rows(prism.list_expiring(within), output, columns)
        elif delimiter:
            show_rows(_with_folders(prism, bucket, prefix, delimiter), output, ("key", "size_bytes", "last_modified"))
        else:
            columns = ("key", "size_bytes", "last_modified", "content_type")
            show_rows(prism.list_objects(bucket, prefix), output, columns)


@commands.command()
def copy(
    namespace: Namespace,
    key: Key,
    to_key: Annotated[str, typer.Argument(help="The copy's key.")],
    bucket: Bucket = "",
    to_namespace: Annotated[str | None, typer.Option(help="Another namespace.")] = None,
    to_bucket: Annotated[str, typer.Option(help="Another bucket than that namespace's own.")] = "",
    ttl: TTL = None,
    no_expiration: NoExpiration = False,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    endpoint: Endpoint = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Copy an object; the copy has content type and metadata of the original, and a lifetime of its own."""
    lasting = None if ttl is None else seconds_of(ttl)
    with failures(), client(namespace, endpoint) as prism:
        result = prism.copy_object(
            bucket, key, to_bucket, to_key, destination_namespace=to_namespace, ttl_seconds=lasting,
            no_expiration=no_expiration, if_match=if_match, if_none_match=if_none_match,
        )  # fmt: skip
        show(result, output, f"{to_key}: {sized(result.size_bytes)}, etag {result.etag}, {_until(result.expires_at)}")


@commands.command()
def delete(
    namespace: Namespace,
    key: Annotated[str, typer.Argument(help="The object's key.")] = "",
    prefix: Annotated[str, typer.Option(help="Everything below this folder, which ends in /; needs --yes.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Yes, delete the whole folder.")] = False,
    bucket: Bucket = "",
    if_match: IfMatch = None,
    endpoint: Endpoint = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Delete an object, or with --prefix a whole folder at once."""
    if bool(key) == bool(prefix):
        raise typer.BadParameter("name a KEY or a --prefix, one of them")
    if prefix and not yes:
        raise typer.BadParameter(f"deleting everything below {prefix!r} needs --yes")
    with failures(), client(namespace, endpoint) as prism:
        if prefix:
            prism.delete_prefix(bucket, prefix)
            show({"prefix": prefix, "deleted": True}, output, f"{prefix}: deleted")
            return
        deleted = prism.delete_object(bucket, key, if_match=if_match)
        show({"key": key, "deleted": deleted}, output, f"{key}: {'deleted' if deleted else 'was not there'}")


@commands.command()
def presign(
    namespace: Namespace,
    key: Key,
    method: Annotated[str, typer.Option(help="GET, PUT or DELETE.")] = "GET",
    expires_in: Annotated[str, typer.Option(metavar="DURATION", help="The URL works so long, 1 s to 1 h.")] = "3600",
    content_type: Annotated[str | None, typer.Option(help="The only type that a PUT may send.")] = None,
    bucket: Bucket = "",
    endpoint: Endpoint = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Make a URL that lets its holder transfer this one object, without any credential."""
    lasting = seconds_of(expires_in)
    with failures(), client(namespace, endpoint) as prism:
        signed = prism.presign(bucket, key, method.upper(), lasting, content_type=content_type)
        show(signed, output, signed.url)


@commands.command()
def usage(namespace: Namespace, endpoint: Endpoint = None, output: OutputOption = Format.TEXT) -> None:
    """What the namespace holds."""
    with failures(), client(namespace, endpoint) as prism:
        held = prism.usage()
        show(held, output, f"{held.objects} objects, {sized(held.size_bytes)} ({held.size_bytes} bytes)")


@dataclass(frozen=True)
class _Folder:
    """A row that stands for everything below it."""

    key: str
    size_bytes: None = None
    last_modified: None = None


def _with_folders(prism: "PrismClient", bucket: str, prefix: str, delimiter: str) -> Iterator[object]:
    for page in prism.list_pages(bucket, prefix, delimiter=delimiter):
        rows: list[ListedObject | _Folder] = [*page.objects, *map(_Folder, page.common_prefixes)]
        yield from sorted(rows, key=lambda row: row.key.encode())


def _until(at: object) -> str:
    return "does not expire" if at is None else f"expires {at:%Y-%m-%dT%H:%M:%SZ}"


def _check_file(name: str) -> None:
    if Path(name).is_dir():
        raise Failure(f"{name} is a folder")


def _put_file(
    prism: "PrismClient",
    bucket: str,
    key: str,
    file: str,
    content_type: str | None,
    options: _PutOptions,
    parallel: int,
    resume: bool,
    moved: Callable[[int, int], object] | None,
) -> "PutResult":
    """Straight to the store; through Prism what is no regular file, or where the store cannot be reached from here."""
    from prism_sdk.errors import StoreUnreachable
    from prism_sdk.files import CountedFile, content_type_of

    if Path(file).is_file():
        try:
            return prism.upload_file(
                bucket, key, file, content_type=content_type, parallel=parallel, progress=moved, resume=resume,
                **options,
            )  # fmt: skip
        except StoreUnreachable as error:
            print(f"prism: {error.message}: sending through Prism", file=sys.stderr)
    with Path(file).open("rb") as opened:
        data = cast(IO[bytes], CountedFile(opened, moved))  # has what is used of a file
        return prism.put_object(bucket, key, data, content_type or content_type_of(file), **options)


def _standard_input() -> Iterator[bytes]:
    """Pieces as they come. Unbuffered: a buffer that a thread still waits in would abort the interpreter at its end."""
    with open(0, "rb", buffering=0, closefd=False) as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece

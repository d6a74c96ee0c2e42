"""`prism doctor`: try the stores, print what works and what to do, remember what was found."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .output import Failure, Format, OutputOption, failures, show
from .serve import ConfigOption, DataDirOption

if TYPE_CHECKING:
    from ..config import Config, NamespaceConfig
    from ..doctor import Diagnosis

__all__ = ["doctor"]


def doctor(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    namespace: Annotated[str, typer.Option(help="Only this one. Else: all.")] = "",
    origin: Annotated[
        list[str] | None, typer.Option(help="A browser origin that shall be allowed to upload; may be repeated.")
    ] = None,
    remember: Annotated[
        bool, typer.Option(help="Keep what was found in the catalog; it counts from the next start on.")
    ] = True,
    output: OutputOption = Format.TEXT,
) -> None:
    """Try on each namespace's store what Prism relies on: reach, clock, rights, conditions, parts, copies, URLs, CORS.

    Small probes are written and removed again. Exit 1 when something failed.
    """
    with failures():
        import os

        from ..config import load
        from ..errors import ErrorCode, PrismError

        settings = load(config, os.environ, data_dir=data_dir)
        if config is None and not settings.data_dir.is_dir():
            raise Failure(f"there is no data folder {settings.data_dir}; name one with --data-dir or --config")
        spaces = [space for space in settings.namespaces if namespace in ("", space.name)]
        if not spaces:
            raise PrismError(ErrorCode.NAMESPACE_NOT_FOUND, f"there is no namespace {namespace[:80]!r}")
        found = asyncio.run(_examine(settings, spaces, origin or [], remember))
        show(found, output, "\n".join(_lines(found)))
        if not all(diagnosis.healthy for diagnosis in found):
            raise typer.Exit(1)


async def _examine(
    config: "Config", spaces: Sequence["NamespaceConfig"], origins: Sequence[str], remember: bool
) -> list["Diagnosis"]:
    from ..doctor import examine
    from ..identifiers import utc_now, version_ids

    new_id = version_ids(utc_now)
    found = [await examine(config, space, now=utc_now, new_id=new_id, origins=origins) for space in spaces]
    if remember:
        await _remember(config, spaces, found)
    return found


async def _remember(config: "Config", spaces: Sequence["NamespaceConfig"], found: Sequence["Diagnosis"]) -> None:
    from ..abilities import record
    from ..identifiers import utc_now
    from ..meta import open_meta

    meta = await open_meta(config.meta.url)
    try:
        for space, diagnosis in zip(spaces, found, strict=True):
            if diagnosis.abilities is not None:
                await record(meta, space.name, space.store, diagnosis.abilities, utc_now())
    finally:
        await meta.close()


def _lines(found: Sequence["Diagnosis"]) -> Iterator[str]:
    """A table per namespace, and below it what to do."""
    for diagnosis in found:
        yield f"{diagnosis.namespace}: {diagnosis.store}"
        width = max(len(finding.check) for finding in diagnosis.findings)
        for finding in diagnosis.findings:
            yield f"  {finding.outcome:<8}{finding.check:<{width}}  {finding.said}"
            if finding.advice:
                yield f"  {'':<8}{'':<{width}}  -> {finding.advice}"

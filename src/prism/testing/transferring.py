"""A client of its own process for tests of file transfers: it may die in the middle, and says how much memory it took.

`python -m prism.testing.transferring ENDPOINT NAMESPACE upload|download KEY PATH DIE_AT_BYTES LARGEST_FILE_BYTES
PART_BYTES`; 0 is "not".
"""

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

from prism_sdk import PrismClient, PrismError

__all__ = ["run"]


async def run(
    endpoint: str,
    namespace: str,
    action: str,
    key: str,
    path: Path,
    die_at: int = 0,
    largest_file: int = 0,
    part_bytes: int = 0,
) -> tuple[int, str]:
    """How the process ended (negative: by which signal), and what it said."""
    arguments = (endpoint, namespace, action, key, str(path), str(die_at), str(largest_file), str(part_bytes))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    except BaseException:
        process.kill()
        raise
    return process.returncode or 0, said.decode()


def main(arguments: list[str]) -> int:
    endpoint, namespace, action, key, path = arguments[:5]
    die_at, largest_file, part_bytes = map(int, arguments[5:])
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    def moved(done: int, total: int) -> None:
        if die_at and done >= die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with PrismClient(namespace, endpoint=endpoint) as client:
        client.usage()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            if action == "upload":
                client.upload_file("", key, path, progress=moved, part_size_bytes=part_bytes or None)
            else:
                client.download_file("", key, path, progress=moved)
        except (OSError, PrismError) as error:
            print(f"{type(error).__name__}: {error}")
            return 1
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

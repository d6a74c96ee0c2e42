"""The AWS command line against Prism's S3 API: copy, list, synchronise, presign, remove."""

import asyncio
import os
import sys
from pathlib import Path

import httpx
from s3_support import BUCKET, KEY_PAIR

from prism.testing.running import running_app


async def aws(url: str, home: Path, *arguments: str) -> str:
    """What the command prints; it must succeed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": KEY_PAIR[0],
        "AWS_SECRET_ACCESS_KEY": KEY_PAIR[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(sys.executable).with_name("aws")),
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, wrong = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (arguments, printed, wrong)
    return printed.decode()


async def test_a_folder_goes_up_and_comes_back(tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    files = {"a.txt": b"alpha", "b c/é+1.bin": os.urandom(1_000_000), "empty": b""}
    for name, content in files.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\ns3 =\n    signature_version = s3v4\n")
    async with running_app() as running:
        await aws(running.s3, tmp_path, "s3", "cp", "--recursive", "--quiet", str(there), f"s3://{BUCKET}/up/")
        listed, buckets, presigned, _ = await asyncio.gather(
            aws(running.s3, tmp_path, "s3", "ls", "--recursive", f"s3://{BUCKET}/up/"),
            aws(running.s3, tmp_path, "s3", "ls"),
            aws(running.s3, tmp_path, "s3", "presign", f"s3://{BUCKET}/up/a.txt"),
            aws(running.s3, tmp_path, "s3", "sync", "--quiet", f"s3://{BUCKET}/up/", str(back)),
        )
        assert [line.split(maxsplit=3)[3] for line in listed.splitlines()] == ["up/a.txt", "up/b c/é+1.bin", "up/empty"]
        assert buckets.split()[-1] == BUCKET
        async with httpx.AsyncClient() as client:
            assert (await client.get(presigned.strip())).content == b"alpha"
        assert {name: (back / name).read_bytes() for name in files} == files
        await aws(running.s3, tmp_path, "s3", "rm", "--recursive", "--quiet", f"s3://{BUCKET}/up/")
        assert await aws(running.s3, tmp_path, "s3", "ls", f"s3://{BUCKET}") == ""

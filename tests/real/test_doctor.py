"""`prism doctor` tells the truth about each real server."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from stores import config_on, real_store

from prism.config import Secret
from prism.doctor import Diagnosis, Outcome, examine
from prism.identifiers import utc_now, version_ids

ALL_BONDS = {"content_type", "crc32c", "create_only", "md5", "metadata", "sha256", "size"}
TRUTH = {
    # what each server was seen to do: conditional delete, bonds of a URL, pages of any origin
    "minio": (False, ALL_BONDS, True),
    "versitygw": (True, ALL_BONDS, False),
    "gcs": (True, ALL_BONDS - {"sha256"}, False),
    "azure": (True, set(), False),
}


async def diagnosed(kind: str, folder: Path, **settings: object) -> Diagnosis:
    async with real_store(kind) as store:
        config = config_on({"files": msgspec.structs.replace(store, **settings)}, folder)
        return await examine(config, config.namespaces[0], now=utc_now, new_id=version_ids(utc_now))


def said(diagnosis: Diagnosis) -> dict[str, Outcome]:
    return {finding.check: finding.outcome for finding in diagnosis.findings}


@pytest.mark.parametrize("kind", TRUTH)
async def test_each_server_is_described_as_it_is(kind: str, tmp_path: Path) -> None:
    deletes, bonds, pages = TRUTH[kind]
    diagnosis = await diagnosed(kind, tmp_path)
    assert diagnosis.healthy, diagnosis.findings
    found = diagnosis.abilities
    assert found is not None
    assert (found.conditional_put, found.copy, found.multipart, found.sign) == (True, True, True, True)
    assert found.conditional_delete is deletes
    assert set(found.binds) == bonds
    assert (said(diagnosis)["browsers"] is Outcome.OK) is pages


@pytest.mark.parametrize("kind", ["minio", "versitygw"])
async def test_wrong_keys_are_told(kind: str, tmp_path: Path) -> None:
    diagnosis = await diagnosed(kind, tmp_path, secret_key=Secret("not-the-secret"))
    assert not diagnosis.healthy
    assert diagnosis.abilities is None
    assert "not-the-secret" not in repr(diagnosis)


async def test_a_host_that_clients_cannot_reach_is_told(tmp_path: Path) -> None:
    diagnosis = await diagnosed("minio", tmp_path, public_endpoint="http://127.0.0.1:9")
    finding = next(finding for finding in diagnosis.findings if finding.check == "signing host")
    assert finding.outcome is Outcome.FAILED
    assert "public_endpoint" in finding.advice


async def test_a_missing_bucket_is_told(tmp_path: Path) -> None:
    diagnosis = await diagnosed("minio", tmp_path, bucket="no-such-bucket-here")
    assert not diagnosis.healthy


async def test_the_command_prints_a_table_and_ends_by_the_outcome(tmp_path: Path) -> None:
    async with real_store("minio") as store:
        config_on({"files": store}, tmp_path)
        command = [sys.executable, "-m", "prism", "doctor", "--config", "prism.json", "--data-dir", "data"]
        good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert good.returncode == 0, good.stdout + good.stderr
        assert "presigned GET" in good.stdout
        table = subprocess.run([*command, "--output", "json"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert json.loads(table.stdout)[0]["namespace"] == "files"
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert bad.returncode == 1, bad.stdout

"""The AWS SDK for Java: CBOR by its own codec, and SubscribeToShard over HTTP/2 with prior knowledge."""

import pathlib
import shutil
import subprocess

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent / "sdk-java"


def test_the_java_sdk_puts_reads_and_subscribes(lake_server, unique):
    if not shutil.which("java") or not (FOLDER / "lib").exists():
        pytest.skip("needs java (17 or later) and the SDK in tests/clients/sdk-java/lib (scripts/test asks mvn for it)")
    done = subprocess.run(
        ["java", "-cp", "lib/*", "KinesisCheck.java", lake_server.endpoint, unique("java")],
        cwd=FOLDER,
        env=lake_server.client_env(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["records", "refusals", "events"]

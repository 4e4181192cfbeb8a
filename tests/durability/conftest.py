"""Makes the modules beside the tests importable; disks of the test's own."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from disk import Disk  # noqa: E402


@pytest.fixture
def disks(tmp_path):
    """A function that gives numbered disks; skipped, visibly, where file systems cannot be mounted."""
    made = []

    def disk(name):
        made.append(Disk(tmp_path, name))
        return made[-1]

    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("this test needs root and mkfs.ext4")
    probe = disk("probe").create()
    try:
        probe.attach()
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"this machine cannot mount a loop device: {problem.stderr}")
    probe.detach()
    yield disk
    for each in made:
        each.detach()

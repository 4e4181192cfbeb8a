"""Disks of the tests' own: ext4 in a file on a loop device, and a library that makes any disk lie or fail."""

import pathlib
import shutil
import subprocess

import pytest

IMAGE_MIB = 1024


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, root, name):
        self.image, self.mount = root / f"{name}.img", root / name

    def create(self, size_mib=IMAGE_MIB):
        with open(self.image, "wb") as image:
            image.truncate(size_mib * 2**20)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.image))
        return self

    def attach(self):
        self.mount.mkdir(exist_ok=True)
        run("mount", "-o", "loop,commit=300", str(self.image), str(self.mount))
        return self

    def detach(self):
        subprocess.run(["umount", str(self.mount)], check=False, capture_output=True)

    def image_of_what_was_synced(self, into):
        run("cp", "--sparse=always", str(self.image), str(into.image))


def preloaded(directory, name):
    """A library of this directory, compiled, to be preloaded under a server."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("needs a C compiler")
    library = directory / f"{name}.so"
    source = pathlib.Path(__file__).with_name(f"{name}.c")
    run(compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl")
    return library


def failing_disk(directory):
    """The library that makes a disk lie or fail."""
    return preloaded(directory, "failing_disk")

"""Runs the real `alluvium` binary for a test: a free port, a temporary directory, stopped by who started it.

`ALLUVIUM_BIN` names the binary; otherwise the newest debug or release build of this checkout is used.
"""

import contextlib
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parent.parent


def binary() -> str:
    """The binary under test. A missing binary is a failure, never a skip."""
    named = os.environ.get("ALLUVIUM_BIN")
    if named:
        return named
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
    built = [p for p in (target / "debug/alluvium", target / "release/alluvium") if p.exists()]
    if not built:
        raise RuntimeError(f"no alluvium binary under {target}: run `cargo build -p alluvium` first")
    return str(max(built, key=lambda p: p.stat().st_mtime))


class Server:
    """One server process on one data directory."""

    def __init__(self, data_dir, *args, env=None, listen="127.0.0.1:0", log=None):
        self.data_dir = pathlib.Path(data_dir)
        self.args = list(args)
        self.listen = listen
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ALLUVIUM_"))},
            "AWS_EC2_METADATA_DISABLED": "true",
            **(env or {}),
        }
        self.log_path = pathlib.Path(log) if log else self.data_dir.with_suffix(".log")
        self.process = None

    def start(self, timeout_s=180, expect_ready=True):
        """Starts and waits until DATA/endpoint is written by this start."""
        endpoint = self.data_dir / "endpoint"
        with contextlib.suppress(FileNotFoundError):
            endpoint.unlink()
        command = [binary(), "serve", "--listen", self.listen, "--data-dir", str(self.data_dir), *self.args]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.env, stdin=subprocess.DEVNULL)
        if not expect_ready:
            return self
        deadline = time.monotonic() + timeout_s
        while not endpoint.exists() or not endpoint.read_text().strip():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server was not ready in {timeout_s} s:\n{self.log_tail()}")
            time.sleep(0.02)
        return self

    @property
    def endpoint(self) -> str:
        return (self.data_dir / "endpoint").read_text().strip()

    def exports(self) -> dict:
        """What `alluvium env` prints, as a dictionary."""
        out = subprocess.run(
            [binary(), "env", "--data-dir", str(self.data_dir)], env=self.env, capture_output=True, text=True, check=True
        ).stdout
        pairs = {}
        for line in out.splitlines():
            if line.startswith("export "):
                name, _, value = line[len("export "):].partition("=")
                pairs[name] = value.strip().strip("'\"")
        return pairs

    def client_env(self) -> dict:
        """An environment in which the AWS CLI and SDKs reach this server."""
        return {**self.env, **self.exports(), "AWS_PAGER": ""}

    def client(self, service, region=None, **config):
        """A boto3 client for this server."""
        import boto3
        from botocore.config import Config

        pairs = self.exports()
        endpoint_url = config.pop("endpoint_url", None) or self.endpoint
        session = boto3.session.Session()
        return session.client(
            service,
            endpoint_url=endpoint_url,
            region_name=region or pairs.get("AWS_REGION") or pairs.get("AWS_DEFAULT_REGION") or "us-east-1",
            aws_access_key_id=pairs["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=pairs["AWS_SECRET_ACCESS_KEY"],
            config=Config(**{"retries": {"max_attempts": 1}, **config}),
        )

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self, timeout_s=120) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def wait(self, timeout_s=120) -> int:
        return self.process.wait(timeout_s)

    def log_tail(self, size=4000) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_text(errors="replace")[-size:]
        return ""


@contextlib.contextmanager
def running(*args, env=None):
    """A server in a directory of its own, for the length of a `with`."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="alluvium-test-"))
    server = Server(root / "data", *args, env=env)
    try:
        yield server.start()
    finally:
        server.kill()
        shutil.rmtree(root, ignore_errors=True)


def wait_until(condition, timeout_s=180, what="the condition", otherwise=False):
    """Polls until `condition()` returns something true, which is returned.

    After `timeout_s` it raises; with `otherwise` it returns what the condition returned last.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            if otherwise:
                return value
            raise AssertionError(f"{what} did not hold within {timeout_s} s (last: {value!r})")
        select.select([], [], [], 0.05)

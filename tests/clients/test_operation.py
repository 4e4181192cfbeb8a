"""What an operator sees: metrics, logs, files, signals, and commands in odd surroundings."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import alluvium_server
from alluvium_server import Server, binary, wait_until
from test_commands import FIELDS, make_stream, run

SAMPLE = re.compile(r'^(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$')


def scrape(server):
    """The exporter's page, read as strictly as Prometheus does: (name, labels) to value."""
    with urllib.request.urlopen(f"{server.endpoint}/_alluvium/metrics") as page:
        text = page.read().decode()
    kinds, helps, samples = {}, set(), {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helps, f"{name} is explained twice"
            helps.add(name)
        elif line.startswith("# TYPE "):
            name, kind = line.split(" ")[2:]
            assert name not in kinds, f"{name} comes in two places"
            kinds[name] = kind
        elif line:
            name, labels, value = SAMPLE.match(line).groups()
            family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
            assert family in kinds, f"{name} has no type"
            assert family in helps, f"{name} has no explanation"
            assert (name, labels or "") not in samples, f"{line} comes twice"
            samples[name, labels or ""] = float(value)
    return samples


def of_stream(samples, stream):
    return {(name, labels): value for (name, labels), value in samples.items() if f'stream="{stream}"' in labels}


def test_every_stream_has_its_metrics_and_they_go_with_it(fresh_server, unique):
    server = fresh_server
    s3tables = server.client("s3tables")
    bucket = s3tables.create_table_bucket(name="metered")["arn"]
    s3tables.create_namespace(tableBucketARN=bucket, namespace=["sensors"])
    fields = [{**FIELDS[0], "required": True}, *FIELDS[1:]]
    s3tables.create_table(tableBucketARN=bucket, namespace="sensors", name="readings", format="ICEBERG",
                          metadata={"iceberg": {"schema": {"fields": fields}}})
    account, region = bucket.split(":")[4], bucket.split(":")[3]
    table = {"catalog_arn": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/metered",
             "namespace": "sensors", "table": "readings"}
    stream = make_stream(server, table, unique)
    firehose = server.client("firehose")
    good, lacking, broken = b'{"sensor_id":"a"}', b'{"location":"x"}', b"{"
    records = [{"Data": data} for data in (good, good, lacking, broken, broken)]
    firehose.put_record_batch(DeliveryStreamName=stream, Records=records)

    def delivered():
        seen = of_stream(scrape(server), stream)
        # The lag ends a moment after the rows are visible, when the batch is done.
        done = seen.get(("alluvium_stream_lag_seconds", labels)) == 0
        done = done and seen.get(("alluvium_put_to_visible_seconds_count", labels)) == 1
        return seen if done and seen.get(("alluvium_delivery_rows_total", labels)) == 2 else None

    labels = f'region="{region}",stream="{stream}"'
    seen = wait_until(delivered, what="two rows in the metrics")
    assert seen["alluvium_stream_records_total", labels] == 5
    assert seen["alluvium_stream_bytes_total", labels] >= sum(len(record["Data"]) for record in records)
    reasons = {labels: value for (name, labels), value in seen.items()
               if name == "alluvium_delivery_error_records_total"}
    assert len(reasons) == 2 and sorted(reasons.values()) == [1, 2], reasons
    buckets = [value for (name, _), value in seen.items() if name == "alluvium_put_to_visible_seconds_bucket"]
    assert buckets == sorted(buckets) and buckets[-1] == 1
    assert seen["alluvium_put_to_visible_seconds_count", labels] == 1
    assert seen["alluvium_put_to_visible_seconds_sum", labels] > 0

    answer = run(server, "sql", "SELECT 1")
    assert answer.returncode == 0, answer.stderr
    whole = scrape(server)
    for name in ("alluvium_log_size_bytes", "alluvium_commit_seconds_count", "alluvium_query_seconds_count"):
        assert whole[name, ""] > 0, name
    wait_until(lambda: scrape(server)["alluvium_queries_active", ""] == 0, what="no query active")
    assert whole["alluvium_put_calls_without_invocation_id_total", ""] == 0
    firehose.meta.events.register("before-send.firehose", lambda request, **_: drop_invocation(request))
    firehose.put_record(DeliveryStreamName=stream, Record={"Data": good})
    assert scrape(server)["alluvium_put_calls_without_invocation_id_total", ""] == 1

    firehose.delete_delivery_stream(DeliveryStreamName=stream)
    wait_until(lambda: not of_stream(scrape(server), stream), what="the deleted stream's series are gone")


def drop_invocation(request):
    del request.headers["amz-sdk-invocation-id"]


def test_logs_are_json_with_the_answers_request_ids_and_without_secrets(tmp_path):
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    env = {"ALLUVIUM_ROOT_ACCESS_KEY_ID": "AKIDOPERATOR", "ALLUVIUM_ROOT_SECRET_ACCESS_KEY": secret}
    server = Server(tmp_path / "data", "--log-format", "json", "--log-level", "trace", env=env)
    try:
        server.start()
        s3, sts, firehose = (server.client(name) for name in ("s3", "sts", "firehose"))
        signatures = []
        for client in (s3, sts, firehose):
            client.meta.events.register(
                "before-send", lambda request, **_: signatures.append(request.headers.get("Authorization")))
        good = [sts.get_caller_identity(), s3.create_bucket(Bucket="logged"),
                s3.put_object(Bucket="logged", Key="k", Body=b"v")]
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "logged", "Key": "k"})
        urllib.request.urlopen(url).close()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url.replace("logged/k", "logged/other"))
        ids = [answer["ResponseMetadata"]["RequestId"] for answer in good]
        for refused in (lambda: firehose.describe_delivery_stream(DeliveryStreamName="none"),
                        lambda: s3.get_object(Bucket="logged", Key="none")):
            with pytest.raises(ClientError) as error:
                refused()
            ids.append(error.value.response["ResponseMetadata"]["RequestId"])
        assert run(server, "sql", "SELECT 1").returncode == 0
        assert server.stop() == 0
    finally:
        server.kill()
    text = server.log_path.read_text()
    logged = [json.loads(line) for line in text.splitlines()]
    assert {entry["level"] for entry in logged} >= {"INFO", "DEBUG"}
    known = {entry.get("request_id") for entry in logged}
    assert set(ids) <= known, "an answer's request id is not in the log"
    hidden = [secret, *re.findall(r"Signature=([^&]+)", url)]
    hidden += [text.rsplit("Signature=", 1)[1] for value in signatures
               if (text := value.decode() if isinstance(value, bytes) else value)]
    assert len(hidden) > 6
    whole = server.log_path.read_text()
    for word in hidden:
        assert word not in whole, "a secret or a signature is in the log"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_files_are_private_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        server = Server(tmp_path / "data").start()
    finally:
        os.umask(before)
    try:
        server.client("s3").create_bucket(Bucket="private")
        server.client("s3").put_object(Bucket="private", Key="k", Body=b"v")
        assert run(server, "sql", "SELECT 1").returncode == 0
        for path in [server.data_dir, *server.data_dir.rglob("*")]:
            try:
                mode = path.stat().st_mode & 0o777
            except FileNotFoundError:
                continue  # a temporary file that has done its work
            assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"
    finally:
        server.kill()


def test_a_log_elsewhere_has_one_server_too(tmp_path):
    log = f"file://{tmp_path / 'disk/log'}"
    first = Server(tmp_path / "first", "--log", log).start()
    try:
        second = Server(tmp_path / "second", "--log", log)
        with pytest.raises(RuntimeError, match=f"in use by process {first.process.pid}"):
            second.start()
        assert first.stop() == 0
        checked = subprocess.run([binary(), "log", "check", "--data-dir", str(first.data_dir), "--log", log],
                                 env=first.env, capture_output=True, text=True)
        assert checked.returncode == 0 and checked.stdout.endswith("sound\n"), checked
    finally:
        first.kill()


def test_credentials_of_the_environment_are_told_from_generated_ones(tmp_path):
    server = Server(tmp_path / "data").start()
    generated = server.exports()["AWS_ACCESS_KEY_ID"]
    assert server.stop() == 0
    given = {"ALLUVIUM_ROOT_ACCESS_KEY_ID": "AKIDROTATED", "ALLUVIUM_ROOT_SECRET_ACCESS_KEY": "rotated-secret"}
    rotated = Server(tmp_path / "data", env=given).start()
    try:
        assert rotated.exports()["AWS_ACCESS_KEY_ID"] == "AKIDROTATED"
        assert rotated.client("sts").get_caller_identity()["Account"] == "000000000000"
        without = {name: value for name, value in rotated.env.items() if name not in given}
        command = [binary(), "env", "--data-dir", str(rotated.data_dir)]
        told = subprocess.run(command, env=without, capture_output=True, text=True)
        assert told.returncode == 1 and "AKIDROTATED" in told.stderr and told.stdout == "", told
        assert rotated.stop() == 0
        one = {**without, "ALLUVIUM_ROOT_ACCESS_KEY_ID": "AKIDROTATED"}
        half = subprocess.run([binary(), "serve", "--data-dir", str(tmp_path / "half")], env=one,
                              capture_output=True, text=True)
        assert half.returncode == 2 and "together" in half.stderr and not (tmp_path / "half").exists()
        again = Server(tmp_path / "data").start()
        assert again.exports()["AWS_ACCESS_KEY_ID"] == generated
        again.kill()
    finally:
        rotated.kill()


def test_a_second_signal_ends_a_drain_that_waits(tmp_path):
    server = Server(tmp_path / "data", "--drain-timeout-ms", "3600000").start()
    host, port = server.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head_of_a_put(server))
        assert slow.recv(1024).startswith(b"HTTP/1.1 100"), "the body is asked for: the call is in flight"
        wait_until(lambda: not closed_to(host, port, server), what="the drain begins")
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
    assert not (server.data_dir / "endpoint").exists()


def head_of_a_put(server):
    """The head of a signed PutRecord whose client waits to be asked for the body."""
    exports = server.exports()
    headers = {"x-amz-target": "Firehose_20150804.PutRecord", "content-type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", server.endpoint + "/", data=b'{"DeliveryStreamName":"none"}', headers=headers)
    credentials = Credentials(exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(credentials, "firehose", "us-east-1").add_auth(request)
    prepared = request.prepare()
    sent = {**prepared.headers, "Host": server.endpoint.removeprefix("http://"), "Expect": "100-continue"}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST / HTTP/1.1\r\n{head}\r\n".encode()


def closed_to(host, port, server):
    """Sends the first SIGTERM; false once the listener is closed, while the process still runs."""
    if not (server.data_dir / "endpoint").exists():
        return False
    if "draining" not in server.log_tail():
        server.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in server.log_tail(), what="the signal is heard")
    assert server.process.poll() is None, "nothing was in flight"
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_load_still_says_what_it_did(lake_server, make_table, unique, number):
    stream = make_stream(lake_server, make_table(FIELDS), unique)
    # One record in ten seconds a connection: nothing is in flight when the signal comes.
    load = subprocess.Popen(
        [binary(), "generate", "sensors", "--stream", stream, "--rate", "1", "--connections", "10"],
        env=lake_server.client_env(), stdout=subprocess.PIPE, text=True)
    try:
        page = "alluvium_stream_records_total"
        wait_until(lambda: sum(v for (name, labels), v in scrape(lake_server).items()
                               if name == page and f'stream="{stream}"' in labels) >= 1, what="a first record")
        load.send_signal(number)
        out, _ = load.communicate(timeout=120)
    finally:
        load.kill()
    assert load.returncode == 0
    summary = json.loads(out.splitlines()[-1])
    assert list(summary) == ["records", "bytes", "seconds", "records_per_s", "ack_ms_p50", "ack_ms_p99",
                             "ack_ms_max", "failed"]
    assert summary["records"] >= 1 and summary["failed"] == 0


def test_output_that_nobody_reads_is_no_failure(lake_server):
    for command in ("completions bash", "env --data-dir $DATA", "sql 'SELECT 1'", "--help", "config-reference"):
        script = f"set -o pipefail; {binary()} {command} | true"
        env = {**lake_server.client_env(), "DATA": str(lake_server.data_dir)}
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
        assert done.returncode == 0 and "panic" not in done.stderr, (command, done)
    full = subprocess.run(["bash", "-c", f"{binary()} completions zsh >/dev/full"], capture_output=True, text=True)
    assert full.returncode == 1 and full.stderr.startswith("alluvium: stdout"), full


@pytest.mark.parametrize("shell, check", [("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])])
def test_completions_are_scripts_that_know_the_commands(shell, check, tmp_path):
    script = subprocess.run([binary(), "completions", shell], capture_output=True, text=True, check=True).stdout
    for word in ("serve", "redeliver", "completions", "table-commit-interval-ms"):
        assert word in script, word
    assert "config-reference" not in script
    if not any((pathlib.Path(place) / shell).exists() for place in os.environ["PATH"].split(os.pathsep)):
        pytest.skip(f"{shell} is not installed: its script was not parsed")
    path = tmp_path / "completions"
    path.write_text(script)
    parsed = subprocess.run([*check, str(path)], capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr


def test_rows_as_json_keep_their_order_and_every_column(lake_server):
    done = run(lake_server, "sql", "--format", "json", "SELECT 2 AS b, 1 AS a, 3 AS a")
    assert done.stdout == '{"b":2,"a":1,"a_1":3}\n', done


def clean_env(**more):
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ALLUVIUM_"))}, **more}


def test_the_demonstration_runs_where_temporary_files_are_in_memory():
    kind = subprocess.run(["stat", "-f", "-c", "%T", "/dev/shm"], capture_output=True, text=True).stdout.strip()
    if kind != "tmpfs":
        pytest.skip("/dev/shm is no memory file system here")
    command = [binary(), "demo", "--records", "100", "--rate", "max"]
    done = subprocess.run(command, env=clean_env(TMPDIR="/dev/shm"), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=600)
    assert done.returncode == 0 and "100" in done.stdout, done
    assert not list(pathlib.Path("/dev/shm").glob("alluvium-demo-*"))


@pytest.mark.parametrize("end", [b"\x03", b"\n"], ids=["interrupt", "enter"])
def test_the_demonstration_on_a_terminal_ends_by_a_key(end, tmp_path):
    command, env = [binary(), "demo", "--records", "100", "--rate", "max"], clean_env(TMPDIR=str(tmp_path))
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, env)
    seen, pressed, deadline = b"", False, time.monotonic() + 600
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                break  # the other side is closed
        if b"press Enter" in seen and not pressed:
            pressed = bool(os.write(terminal, end))
    else:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert (pressed, status) == (True, 0), seen.decode()
    assert not list(tmp_path.glob("alluvium-demo-*")), "the throw-away lake is left"


def test_an_interrupted_demonstration_says_so_and_leaves_nothing(tmp_path):
    demo = subprocess.Popen([binary(), "demo", "--records", "100000", "--rate", "1000"],
                            env=clean_env(TMPDIR=str(tmp_path)), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in demo.stdout:
            if line.startswith("Streaming"):
                break
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=120)
    finally:
        demo.kill()
    assert (demo.returncode, said) == (1, "alluvium: interrupted\n")
    assert not list(tmp_path.glob("alluvium-demo-*"))


def test_the_deployments_commands_start(tmp_path):
    """What the unit and the container file run is a command that this binary takes."""
    unit = (alluvium_server.REPO / "deploy/alluvium.service").read_text()
    container = (alluvium_server.REPO / "deploy/Containerfile").read_text()
    commands = [re.search(r"^ExecStart=\S+ (.*)$", unit, re.M)[1].split(),
                json.loads(re.search(r"^CMD (\[.*\])$", container, re.M)[1])]
    for number, (verb, *arguments) in enumerate(commands):
        assert verb == "serve"
        at = arguments.index("--data-dir")
        assert pathlib.Path(arguments[at + 1]).is_absolute()
        del arguments[at : at + 2]
        server = Server(tmp_path / str(number), *[a for a in arguments if ":" not in a and a != "--listen"])
        assert server.start().stop() == 0

"""The README's commands do what it says: its tour is run, word for word, in a directory of its own."""

import os
import pathlib
import re
import subprocess
import sys

from alluvium_server import REPO, binary

BLOCK = re.compile(r"<!-- tour:(\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)


def tour():
    """The tour as one shell script: shell blocks as they are, Python blocks through `python`."""
    parts = ["set -euo pipefail"]
    for kind, _, text in BLOCK.findall((REPO / "README.md").read_text()):
        if kind == "setup":
            # The binary is built and on the path already; a free port instead of the usual one.
            serve = next(line for line in text.splitlines() if line.startswith("alluvium serve"))
            parts.append(serve.replace("alluvium serve", "alluvium serve --listen 127.0.0.1:0"))
            parts.append("trap 'kill %1; wait %1' EXIT")
        elif kind == "python":
            parts.append(f"python - <<'TOUR'\n{text}TOUR")
        else:
            parts.append(text)
    return "\n".join(parts)


def run(script, cwd):
    # The README's commands call it by its name, which a shell must find.
    found = pathlib.Path(binary())
    assert found.name == "alluvium", f"the README's commands run `alluvium`; the binary under test is {found}: rename it"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ALLUVIUM_"))}
    tools = [str(pathlib.Path(binary()).parent), str(pathlib.Path(sys.executable).parent)]
    env |= {"PATH": os.pathsep.join([*tools, env["PATH"]]), "AWS_PAGER": "", "HOME": str(cwd)}
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def test_the_tour_runs_and_shows_what_it_promises(tmp_path):
    done = run(tour(), tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "0 failed" in done.stdout
    assert "2026-01-01 00:00:00.000 UTC" in done.stdout
    assert "errors/iceberg-failed/" in done.stdout
    assert "'sensor_id': 's1'" in done.stdout and "20.375" in done.stdout


def test_the_demonstration_ends_well(tmp_path):
    done = run("alluvium demo --records 1000 --rate max", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "All of them were rows" in done.stdout
    assert "sensor_id" in done.stdout and "Iceberg.MissingColumnWithinRecord" in done.stdout
    assert "The throw-away lake is gone" in done.stdout


def test_the_readme_names_only_paths_that_exist():
    text = (REPO / "README.md").read_text()
    for path in re.findall(r"`((?:docs|tests|bench|crates|scripts|deploy)/[\w./-]+)`", text):
        assert (REPO / path).exists(), path

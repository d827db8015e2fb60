"""Installs riskcards as a new user would and requests a card from the demo: empty HOME, no package cache, nothing kept.

    python .ci/fresh_machine.py checkout --pip 22.3      a clone, `make demo`, with the oldest pip Python 3.11 came with
    python .ci/fresh_machine.py checkout --pip newest    the same with today's newest pip
    python .ci/fresh_machine.py wheel                    the wheel by plain pip: today's newest versions, no lock
    python .ci/fresh_machine.py wheel --lowest           the wheel with the lowest versions that setup.cfg admits
    python .ci/fresh_machine.py sizes .venv              what takes the space in an environment, as a Markdown table

`wheel` also runs the smoke tests (SMOKE) against what it installed, without the checkout on the path. The standard
library only: this runs before anything is installed. Exit code 1 and the failing command's output where a step fails.
"""

# a script over our own git, make and interpreter: it prints its answer
# ruff: noqa: T201, S310, S603
from __future__ import annotations

import argparse
import configparser
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OLDEST_PIP = "22.3"  # bundled with Python 3.11.0
START_LIMIT = 600  # seconds for an installation and its first answer, on a busy machine too
SMOKE = (
    "tests/smoke",
    "tests/end_to_end/test_golden.py",
    "tests/contract/test_contract.py",
    "tests/fhir_mapping/record/test_cases.py",
    "tests/knowledge_index/indexing/test_starter.py",
    "tests/risk_model/models/test_estimator.py",
    "tests/cds_service/commands/test_command_score.py",
)
SMOKE_NEEDS = ("pytest", "hypothesis")
# Variables any shell has: program paths, network access. Not our settings, not our caches.
KEPT = re.compile(r"PATH|LANG|LC_\w+|TERM|TZ|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|PIP_\w+|\w*_proxy|\w*_PROXY|OPENBLAS_\w+")


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a user who has just logged in for the first time, without a package cache."""
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
    kept.pop("PIP_CACHE_DIR", None)
    return kept | {"HOME": str(home), "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(*command: str | Path, cwd: Path, env: Mapping[str, str]) -> None:
    """Raises SystemExit with the command's output where it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=dict(env), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"FAILED ({done.returncode}): {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")


def lowest_versions(setup_cfg: str) -> list[str]:
    """The lower bound of each runtime requirement as a pip constraint.

    >>> lowest_versions("[options]\\ninstall_requires =\\n    # vectors\\n    numpy>=2.0.1\\n    pyjwt[crypto]>=2.13")
    ['numpy==2.0.1', 'pyjwt==2.13']
    """
    parser = configparser.ConfigParser()
    parser.read_string(setup_cfg)
    found: list[str] = []
    for line in parser["options"]["install_requires"].splitlines():
        bound = re.match(r"([\w.-]+)(?:\[[\w,]+\])?(?:>=|==)([\w.]+)", line.strip())
        if bound:
            found.append(f"{bound[1]}=={bound[2]}")
    return found


@contextmanager
def running(command: list[str], cwd: Path, env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, ended with all its children afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=dict(env), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_card(address: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """The summary of the first card the demo gives for its first patient; waits until the demo answers."""
    give_up = time.monotonic() + START_LIMIT
    while True:
        try:
            page = urllib.request.urlopen(f"{address}/demo/", timeout=60).read().decode()
            break
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            if process.poll() is not None or time.monotonic() > give_up:
                sys.exit(f"FAILED: the demo did not answer\n{log.read_text(errors='replace')[-6000:]}")
            time.sleep(0.25)
    patient = re.search(r'data-patient="([^"]+)"', page)
    if patient is None:
        sys.exit("FAILED: the demo's page lists no patient")
    prepared = urllib.request.Request(f"{address}/demo/api/request/hospital-risk/{patient[1]}", b"", method="POST")
    body = urllib.request.urlopen(prepared, timeout=120).read()
    asked = urllib.request.Request(
        f"{address}/cds-services/hospital-risk", body, {"Content-Type": "application/json"}, method="POST"
    )
    answer = json.load(urllib.request.urlopen(asked, timeout=120))
    if not answer["cards"]:
        sys.exit("FAILED: the hook's answer has no card")
    return str(answer["cards"][0]["summary"])


def checkout(pip: str) -> None:
    """`git clone`, `make demo`, a card; what it took and weighs. `pip`: a version, `newest`, or `bundled`."""
    with tempfile.TemporaryDirectory(prefix="riskcards-fresh-") as folder:
        home, clone, port = Path(folder) / "home", Path(folder) / "riskcards", free_port()
        home.mkdir()
        env = clean_environment(home)
        run("git", "clone", "--quiet", REPOSITORY, clone, cwd=home, env=env)
        command = ["make", "demo", f"ARGS=--no-browser --port {port}"] + ([f"PIP={pip}"] if pip != "bundled" else [])
        begun = time.monotonic()
        with running(command, clone, env, home / "log") as process:
            summary = first_card(f"http://127.0.0.1:{port}", process, home / "log")
            seconds = time.monotonic() - begun
        print(f"make demo with {pip} pip: first card after {seconds:.0f} s, {megabytes(clone / '.venv')} MB: {summary}")


def wheel(*, lowest: bool) -> None:
    """Builds the wheel, installs it by plain pip into an empty environment, asks the demo, runs the smoke tests."""
    with tempfile.TemporaryDirectory(prefix="riskcards-wheel-") as folder:
        home, clone, venv = (Path(folder) / name for name in ("home", "source", "venv"))
        home.mkdir()
        env, port = clean_environment(home), free_port()
        run("git", "clone", "--quiet", REPOSITORY, clone, cwd=home, env=env)
        run(sys.executable, "-m", "venv", venv, cwd=home, env=env)
        pip = [venv / "bin" / "python", "-m", "pip", "--quiet"]
        run(*pip, "wheel", "--no-deps", "--wheel-dir", home / "dist", clone, cwd=home, env=env)
        bounds: list[str | Path] = []
        if lowest:
            (home / "lowest.txt").write_text("\n".join(lowest_versions((clone / "setup.cfg").read_text("utf-8"))))
            bounds = ["--constraint", home / "lowest.txt"]
        begun = time.monotonic()
        run(*pip, "install", *bounds, next((home / "dist").glob("*.whl")), cwd=home, env=env)
        run(*pip, "check", cwd=home, env=env)
        command = [str(venv / "bin" / "riskcards"), "demo", "--no-browser", "--port", str(port)]
        with running(command, home, env, home / "log") as process:
            summary = first_card(f"http://127.0.0.1:{port}", process, home / "log")
        words = "lowest versions" if lowest else "newest versions"
        seconds = time.monotonic() - begun
        print(f"the wheel, {words}: first card after {seconds:.0f} s, {megabytes(venv)} MB: {summary}")
        run(*pip, "install", *bounds, *SMOKE_NEEDS, cwd=home, env=env)
        smoke(venv, clone, home / "smoke", env)
        print(f"the wheel, {words}: smoke tests pass")


def smoke(venv: Path, clone: Path, folder: Path, env: Mapping[str, str]) -> None:
    """The smoke tests over the installed package: tests and examples are copied to where no package of ours lies."""
    for name in ("tests", "examples", "docs"):
        shutil.copytree(clone / name, folder / name)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser: x\n    shared_data: x\n")
    run(venv / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *SMOKE, cwd=folder, env=env)


def sizes(venv: Path, most: int = 12) -> None:
    """A Markdown table of the packages that take the most space; a wheel's shared libraries count with it."""
    totals: dict[str, int] = {}
    for entry in next((venv / "lib").glob("python3*")).joinpath("site-packages").iterdir():
        name = entry.name.partition(".")[0].partition("-")[0]
        totals[name] = totals.get(name, 0) + used(entry)
    print(f"| package | MB |\n|---|---|\n| all of {venv.name} | {megabytes(venv)} |")
    for name, size in sorted(totals.items(), key=lambda item: -item[1])[:most]:
        print(f"| {name} | {size / 1e6:.0f} |")


def used(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(item.lstat().st_size for item in path.rglob("*") if item.is_file())


def megabytes(folder: Path) -> int:
    return round(used(folder) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("checkout").add_argument("--pip", default="bundled", help="a version, newest, or bundled")
    commands.add_parser("wheel").add_argument("--lowest", action="store_true")
    commands.add_parser("sizes").add_argument("venv", type=Path)
    asked = parser.parse_args()
    if asked.command == "checkout":
        checkout(asked.pip)
    elif asked.command == "wheel":
        wheel(lowest=asked.lowest)
    else:
        sizes(asked.venv)


if __name__ == "__main__":
    main()

"""An install from a lock resolves nothing, so that no later release can break it.

On 30 November 2026 `make demo` failed on every new machine: the lock pinned `coverage`, a dependency asked for
`coverage[toml]`, pip resolved that anew, and a release of coverage had come out since the lock was written.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LOCKS = ("requirements/runtime.txt", "requirements/dev.txt", "requirements/llm.txt", "benchmarks/peers.txt")
# name, locked version, what its metadata requires: packages of our locks, those that ask for extras among them.
LOCKED = (
    ("pytest-cov", "7.1.0", ("coverage[toml]>=7.10.6", "pluggy>=1.2")),
    ("coverage", "7.17.3", ()),
    ("pluggy", "1.6.0", ()),
    ("pip-audit", "2.9.0", ("cachecontrol[filecache]>=0.13.0",)),
    ("cachecontrol", "0.14.4", ("filelock>=3.8; extra == 'filecache'",)),
    ("filelock", "3.20.0", ()),
    ("flask", "3.1.2", ("click>=8.1.3", "werkzeug>=3.1")),
    ("click", "8.5.1", ()),
    ("werkzeug", "3.1.3", ()),
    ("numpy", "2.3.5", ()),
)
NEWER = "999.0"


def tracked_texts() -> Iterable[tuple[str, str]]:
    """Every tracked text that may hold a command, but the locks and this file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    for name in filter(None, listed.stdout.split("\0")):
        wanted = name.endswith((".md", ".py", ".sh", ".cfg", ".toml", ".yaml", ".yml")) or "." not in Path(name).name
        if (wanted or name == ".ci/run") and name != "tests/test_install.py" and (REPOSITORY / name).is_file():
            yield name, (REPOSITORY / name).read_text("utf-8").replace("\\\n", " ")


def install_lines() -> list[tuple[str, str]]:
    """(file, line) of each command that installs from a requirements file, make's variables expanded."""
    found = []
    for name, text in tracked_texts():
        defined = dict(re.findall(r"^(\w+) := (.*)$", text, re.MULTILINE)) if name == "Makefile" else {}
        for line in text.splitlines():
            for variable, value in defined.items():
                line = line.replace(f"$({variable})", value)
            if re.search(r"pip3?\b.*\binstall\b.*\s(-r|--requirement)[ =]", line):
                found.append((name, line.strip()))
    return found


def test_the_lines_that_install_from_a_lock_are_found() -> None:
    """So that the test below cannot pass on an empty list."""
    files = [name for name, _ in install_lines()]
    assert files.count("Makefile") == 5
    assert files.count("Dockerfile") == 1


@pytest.mark.parametrize(("file", "line"), install_lines() or [("no git checkout", "--no-deps --require-hashes")])
def test_every_install_from_a_lock_resolves_nothing(file: str, line: str) -> None:
    assert "--no-deps" in line, f"{file}: {line}"
    assert "--require-hashes" in line, f"{file}: {line}"


def test_every_package_is_in_the_wheel_the_image_and_the_checks() -> None:
    """A package that is missing from setup.cfg works in the checkout and in nothing that is installed from it."""
    packages = {path.parent.name for path in REPOSITORY.glob("*/py.typed")}
    assert len(packages) == 6
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert {name.strip().rstrip("*") for name in setup["options.packages.find"]["include"].split()} == packages
    assert set(setup["mypy"]["packages"].split(", ")) == packages
    assert set(setup["importlinter"]["root_packages"].split()) == packages
    assert set(setup["coverage:run"]["source"].split(", ")) == packages
    assert packages < set(setup["tool:pytest"]["testpaths"].split())
    copied = set(re.findall(r"^COPY (\w+) \1$", (REPOSITORY / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    assert copied == packages


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_line(lock: str) -> None:
    text = (REPOSITORY / lock).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.+]+", line), line
        assert "--hash=sha256:" in line, line


def wheel(folder: Path, name: str, version: str, requires: Iterable[str]) -> str:
    """A wheel of nothing but metadata; returns its sha256."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    extras = {extra for item in requires for extra in re.findall(r"extra == '(\w+)'", item)}
    extras |= {"toml"} if name == "coverage" else set()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {item}\n" for item in requires)
    metadata += "".join(f"Provides-Extra: {extra}\n" for extra in sorted(extras))
    files = {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        f"{len(text)}\n"
        for path, text in files.items()
    )
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in (files | {f"{info}/RECORD": record + f"{info}/RECORD,,\n"}).items():
            archive.writestr(inside, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lock written today, and an index in which every package of it has made a release since."""
    folder = tmp_path_factory.mktemp("later")
    lines = []
    for name, version, requires in LOCKED:
        digest = wheel(folder, name, version, requires)
        wheel(folder, name, NEWER, requires)
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    lock = folder / "lock.txt"
    lock.write_text("".join(lines))
    return folder, lock


def pip(environment: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(environment / "bin" / "python"), "-m", "pip", "--isolated", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    venv.create(tmp_path / "env", with_pip=True)
    return tmp_path / "env"


def makefile_flags() -> list[str]:
    """The options of the Makefile's own install command."""
    text = (REPOSITORY / "Makefile").read_text("utf-8")
    found = re.search(r"^INSTALL := \$\(BIN\)/pip install (.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1].split()


def test_releases_that_came_after_the_lock_change_nothing(later: tuple[Path, Path], environment: Path) -> None:
    """Ten locked packages, each with a newer release in the index: the Makefile's command installs the locked ones."""
    index, lock = later
    done = pip(environment, "install", "--no-index", "--find-links", index, *makefile_flags(), "-r", lock)
    assert done.returncode == 0, done.stderr
    listed = pip(environment, "list", "--format=freeze").stdout.splitlines()
    assert {f"{name}=={version}" for name, version, _ in LOCKED} <= set(listed)
    assert pip(environment, "check").returncode == 0


def test_the_same_lock_breaks_where_pip_may_resolve(later: tuple[Path, Path], environment: Path) -> None:
    """The control: without --no-deps this lock fails as ours did, so the test above can fail."""
    index, lock = later
    flags = [flag for flag in makefile_flags() if flag != "--no-deps"]
    done = pip(environment, "install", "--no-index", "--find-links", index, *flags, "-r", lock)
    if sys.version_info < (3, 12):  # the pip that Python 3.11 brings; later ones may read a pin without its extra
        assert done.returncode != 0
        assert "coverage[toml]" in done.stderr

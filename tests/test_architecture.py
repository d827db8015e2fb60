"""The cut into packages: no import circles or deep imports, unique class names, sorted faces, and a true page on it."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
PACKAGES = ("artifact_store", "cds_hooks", "fhir_mapping", "knowledge_index", "risk_model", "cds_service")
# A flat package is its own face; in the others each sub-package has one.
FLAT = ("artifact_store", "cds_hooks")


def sub_packages() -> list[str]:
    """Every folder of code or data below a package, as `package/sub` or `package/sub/sub`."""
    folders = {
        path.parent.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("__init__.py")
    }
    return sorted(folder for folder in folders if "/" in folder and not folder.endswith("/versions"))


def faces() -> list[str]:
    """The packages and their direct sub-packages that give public names."""
    modules = [*PACKAGES, *(name.replace("/", ".") for name in sub_packages() if name.count("/") == 1)]
    return [name for name in modules if "__all__" in (REPOSITORY / name.replace(".", "/") / "__init__.py").read_text()]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports: lazy ones, and those for type checking only, too."""
    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)


def order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """The order of names in a face: constants, classes, functions; numbers in names by value.

    >>> sorted(["icd", "Icd", "ICD10", "ICD9"], key=order)
    ['ICD9', 'ICD10', 'Icd', 'icd']
    """
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, [(int(part or 0), text) for part, text in re.findall(r"(\d*)(\D*)", name)]


def named_paths(text: str) -> set[str]:
    """
    >>> sorted(named_paths("`docs/settings.md`, `a/b.py` (`SOURCES`), `not a path`"))
    ['a/b.py', 'docs/settings.md']
    """
    return set(re.findall(r"`([\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|md|yaml|cfg)))`", text))


def tree(text: str) -> set[str]:
    """The folders of the tree in the page, as `package/sub`; a folder named in a description belongs to its line."""
    block = text.split("```")[1]
    found, package = set(), ""
    for line in block.splitlines():
        head = re.match(r"(\s*)([a-z_]+)/", line)
        if head is None:
            continue
        if not head[1]:
            package = head[2]
            continue
        found.add(f"{package}/{head[2]}")
        for name in re.findall(r"\b([a-z_/]+)/(?=[ ,;]|$)", line[head.end() :]):
            found.add(f"{package}/{name}" if "/" in name else f"{package}/{head[2]}/{name}")
    return found


def test_every_path_in_the_page_exists() -> None:
    paths = named_paths(PAGE.read_text("utf-8"))
    assert len(paths) > 60
    assert not [path for path in paths if not (REPOSITORY / path).exists()]


def test_the_tree_names_every_sub_package() -> None:
    assert sorted(tree(PAGE.read_text("utf-8"))) == sub_packages()


def test_no_module_is_part_of_an_import_circle(graph: grimp.ImportGraph) -> None:
    assert len(graph.modules) > 400
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"an import circle: {' <- '.join(error.args[1])}")


def test_packages_import_each_other_at_their_faces(graph: grimp.ImportGraph) -> None:
    deep = [
        f"{importer} imports {imported}"
        for importer in sorted(graph.modules)
        for imported in graph.find_modules_directly_imported_by(importer)
        if importer.split(".")[0] != imported.split(".")[0]
        and imported.count(".") > 1
        and not (REPOSITORY / imported.replace(".", "/")).is_dir()
    ]
    assert not deep


def test_no_two_public_classes_share_a_name() -> None:
    homes = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(path.relative_to(REPOSITORY).as_posix())
    assert len(homes) > 300
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


@pytest.mark.parametrize("name", faces())
def test_the_names_of_a_face_are_sorted_and_importable(name: str) -> None:
    face = importlib.import_module(name)
    assert face.__all__ == sorted(face.__all__, key=order)
    assert len(face.__all__) == len(set(face.__all__))
    assert all(hasattr(face, each) for each in face.__all__)


def test_every_sub_package_that_others_import_is_a_face(graph: grimp.ImportGraph) -> None:
    imported = {
        target
        for module in graph.modules
        for target in graph.find_modules_directly_imported_by(module)
        if module.split(".")[0] != target.split(".")[0] and target.split(".")[0] not in FLAT
    }
    assert len(imported) > 20
    assert imported <= set(faces())


def test_the_page_is_named_where_newcomers_look() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "docs/architecture.md" in (REPOSITORY / name).read_text("utf-8")


def test_every_package_is_in_the_wheel_and_type_checked() -> None:
    """artifact_store was in neither at first: the checkout worked, an installed wheel did not."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    assert {name.rstrip("*") for name in setup["options.packages.find"]["include"].split()} == set(PACKAGES)
    assert set(setup["mypy"]["packages"].split(", ")) == set(PACKAGES)

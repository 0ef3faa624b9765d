"""The layers of the package: imports go one way, and looking things up needs no torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import reproduce

PACKAGE = Path(reproduce.__file__).parent

# from the bottom to the top; a module may import from its own row and from those before it
LAYERS = [
    {"core", "paper"},
    {"registry", "cell", "config"},
    {"experiments"},
    {"compute", "data", "models", "zoo"},
    {"attacks", "objectives"},
    {"evaluation", "training", "lemma", "examples"},
    {"results", "tables", "claims", "figures"},
    {"report", "share", "doctor", "api"},
    {"cli", "workflow", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _part(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "reproduce":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reproduce."):
            found.add(node.module.split(".")[1])
    return found & LEVEL.keys()


def _edges() -> dict[str, set[str]]:
    """Return what each part of the package imports of the others."""
    edges: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        part = _part(path)
        if part != "__init__":
            edges[part] = edges.get(part, set()) | _imported(path) - {part}
    return edges


def test_imports_go_one_way() -> None:
    edges = _edges()
    assert edges.keys() == LEVEL.keys()
    wrong = [
        f"{part} imports {name}"
        for part, names in edges.items()
        for name in names
        if LEVEL[name] > LEVEL[part]
    ]
    assert wrong == []
    TopologicalSorter(edges).prepare()  # raises CycleError


def test_planning_and_what_is_made_from_results_need_no_torch() -> None:
    rooms = ("results", "tables", "claims", "figures", "report", "zoo")
    modules = [
        f"reproduce.{room}.{path.stem}"
        for room in rooms
        for path in sorted((PACKAGE / room).glob("[a-z]*.py"))
    ]
    modules += ["reproduce.workflow.harness", "reproduce.cli"]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

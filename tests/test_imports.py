"""The layers of the package: imports go one way, and looking things up needs no torch."""

import ast
import subprocess
import sys
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


def test_every_module_has_a_layer() -> None:
    parts = {_part(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert parts == LEVEL.keys()


def test_imports_go_one_way() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if _part(path) != "__init__"
        for name in _imported(path)
        if LEVEL[name] > LEVEL[_part(path)]
    ]
    assert wrong == []


def test_no_circle_between_parts() -> None:
    edges: dict[str, set[str]] = {name: set() for name in LEVEL}
    for path in PACKAGE.rglob("*.py"):
        if _part(path) != "__init__":
            edges[_part(path)] |= _imported(path) - {_part(path)}
    done: set[str] = set()
    while len(done) < len(edges):
        free = {name for name in edges if name not in done and edges[name] <= done}
        assert free, f"a circle among {sorted(edges.keys() - done)}"
        done |= free


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys, reproduce.workflow.harness, reproduce.cli, reproduce.results.status;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_made_from_results_needs_no_torch() -> None:
    rooms = ("results", "tables", "claims", "figures", "report", "zoo")
    modules = [
        f"{room}.{path.stem}"
        for room in rooms
        for path in sorted((PACKAGE / room).glob("[a-z]*.py"))
    ]
    code = f"import sys, {', '.join(f'reproduce.{name}' for name in modules)};"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

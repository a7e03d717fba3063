"""Imports run downward only: the floors of the design, read from the source of every module.

Floor 6 is the tuner, 5 the commands, 4 recognizer and training, 3 reporting, 2 the pipeline and whole networks, 1 the
rest of data, the layers and the metrics, 0 recipes over configuration over errors.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOOR_0 = {"errors", "files", "config", "recipes", "commandline"}
# Within one floor a module may import only what stands right of its name here, ...
WITHIN = {
    "emokeras.config": {"emokeras.errors"},
    "emokeras.recipes": {"emokeras.config", "emokeras.errors"},
    "emokeras.commandline": {"emokeras.errors"},
    "emokeras.models.build": {"emokeras.models.fusion", "emokeras.models.encoders"},
    "emokeras.models.auxiliary": {"emokeras.models.fusion"},
    "emokeras.models.fusion": {"emokeras.models.encoders", "emokeras.models.attention"},
    "emokeras.models.encoders": {"emokeras.models.attention", "emokeras.models.pretrained"},
    "emokeras.models.pretrained": {"emokeras.models.attention"},
    "emokeras.training.start": {"emokeras.recognizer"},
    "emokeras.training.targets": {"emokeras.recognizer"},
}
# ... and in these rooms what stands beside it on the same floor, as long as there is no circle.
ROOMS = ("emokeras.data", "emokeras.reporting", "emokeras.training", "tuning")
HEAVY = ("tensorflow", "keras", "tensorflow_io")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path for package in ("emokeras", "tuning") for path in sorted((ROOT / package).rglob("*.py"))
}
COMMANDS = sorted(
    name
    for name in FILES
    if name.count(".") == 1
    and name.startswith("emokeras.")
    and not FILES[name].name.startswith("__")
    and name.partition(".")[2] not in FLOOR_0 | {"recognizer"}
)


def imported_names(source: str, module: str, is_package: bool = False) -> set[str]:
    """Return the full names of all that a module's source imports, also inside of functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            names |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            names |= {part.value for part in node.args if isinstance(part, ast.Constant) and "." in str(part.value)}
    return names


def own_module(name: str) -> str:
    """Return the module of ours that a name belongs to: emokeras.config for emokeras.config.home; "" for others'."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in FILES:
            return ".".join(parts[:end])
    return ""


IMPORTS = {
    name: {
        own
        for imported in imported_names(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
        if (own := own_module(imported)) and own != name
    }
    for name, path in FILES.items()
}


def floor(module: str) -> int:
    top, *rest = module.split(".")
    if top == "tuning":
        return 6
    match rest:
        case [] | ["__init__"]:
            return 0  # the version
        case ["__main__"]:
            return 5
        case [name] if name in FLOOR_0 or name in ("data", "models", "training", "reporting"):
            return 0  # the docstring of a folder's __init__ is no room
        case ["recognizer"] | ["training", *_]:
            return 4
        case ["reporting", "metrics"]:
            return 1
        case ["reporting", *_]:
            return 3
        case ["data", "pipeline"] | [
            "models",
            "build" | "auxiliary" | "fusion" | "encoders" | "attention" | "pretrained",
        ]:
            return 2
        case ["data", *_] | ["models", "layers" | "late"]:
            return 1
        case [_]:
            return 5
    raise AssertionError(f"{module} stands on no floor of the design: give it a room there, and a line here")


def room(module: str) -> str:
    return next((name for name in ROOMS if module.startswith(name + ".")), "")


def breaches(module: str, imports: set[str]) -> list[str]:
    """Return what a module imports and may not."""
    found = []
    for other in sorted(imports):
        beside = other in WITHIN.get(module, set()) or (room(module) and room(module) == room(other))
        allowed = floor(other) < floor(module) or (floor(other) == floor(module) and beside)
        meet = {tuple(name.split(".")[:2]) for name in (module, other)}
        if not allowed or meet == {("emokeras", "data"), ("emokeras", "models")}:
            found.append(f"{module} (floor {floor(module)}) imports {other} (floor {floor(other)})")
    return found


def test_the_source_is_read():
    """A reader that finds nothing would hold every floor."""
    assert {"emokeras.data.features", "emokeras.data.augment"} <= IMPORTS["emokeras.data.pipeline"]
    assert "emokeras.models.layers" in IMPORTS["emokeras.models.build"]
    assert "emokeras.training.members" in IMPORTS["emokeras.train"]  # inside a function
    assert {"emokeras.train", "emokeras.predict", "emokeras.export", "emokeras.evaluate"} <= set(COMMANDS)


def test_every_way_to_import_is_seen():
    source = "def f():\n    from ..data import audio\n    from .layers import X\n    import emokeras.train as t"
    names = imported_names(source, "emokeras.models.build")
    assert {own_module(name) for name in names} == {"emokeras.data.audio", "emokeras.models.layers", "emokeras.train"}
    assert imported_names("from . import audio", "emokeras.data", is_package=True) == {"emokeras.data.audio"}
    assert "emokeras.train" in imported_names("importlib.import_module('emokeras.train')", "emokeras.predict")


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("emokeras.errors", "emokeras.config"),
        ("emokeras.config", "emokeras.recipes"),
        ("emokeras.commandline", "emokeras.config"),
        ("emokeras.models.encoders", "emokeras.models.fusion"),
        ("emokeras.models.encoders", "emokeras.data.features"),
        ("emokeras.data.pipeline", "emokeras.models.layers"),
        ("emokeras.data.audio", "emokeras.data.pipeline"),
        ("emokeras.reporting.metrics", "emokeras.data.splits"),
        ("emokeras.runs", "emokeras.training.fit"),
        ("emokeras.recognizer", "emokeras.training.score"),
        ("emokeras.training.score", "emokeras.recognizer"),
        ("emokeras.predict", "emokeras.train"),
        ("emokeras.train", "tuning.search"),
    ],
)
def test_a_breach_would_be_found(module, other):
    assert breaches(module, {other})


@pytest.mark.parametrize("module", FILES)
def test_imports_run_downward_only(module):
    assert not breaches(module, IMPORTS[module])


def test_no_modules_import_each_other_in_a_circle():
    list(graphlib.TopologicalSorter(IMPORTS).static_order())


def test_nothing_imports_the_tuner():
    assert not [name for name, imports in IMPORTS.items() if floor(name) < 6 and any("tuning" in i for i in imports)]


def test_networks_are_written_in_keras_alone():
    """So that they also train on Keras's other backends."""
    for name, path in FILES.items():
        if name.startswith("emokeras.models"):
            imports = imported_names(path.read_text(encoding="utf-8"), name)
            assert not {i for i in imports if i.split(".")[0] in ("tensorflow", "tensorflow_io", "jax", "torch")}, name


def test_the_package_and_its_commands_come_without_tensorflow():
    """TensorFlow takes seconds to import: `--help` must not wait for it."""
    modules = ["emokeras", "emokeras.config", "emokeras.recipes", *COMMANDS]
    code = (
        "import sys\n"
        f"for module in {modules!r}:\n"
        "    __import__(module)\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    assert not heavy, f'{module} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

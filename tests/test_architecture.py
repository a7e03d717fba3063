"""Imports run downward only: the floors of the design, and the imports that the source of every module has."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = tuple(
    f"emokeras.{name}"
    for name in (
        "prepare",
        "transcribe",
        "train",
        "ensemble",
        "evaluate",
        "predict",
        "adapt",
        "export",
        "benchmark",
        "__main__",
    )
)
# From the lowest floor up. The modules of a room may import each other, rooms on one floor may not.
FLOORS = (
    ("emokeras", "emokeras.errors"),
    ("emokeras.files", "emokeras.processes", "emokeras.commandline"),
    ("emokeras.config",),
    ("emokeras.recipes", "emokeras.hub"),
    ("emokeras.data", "emokeras.models"),
    ("emokeras.data.pipeline", "emokeras.models.build"),
    ("emokeras.runs", "emokeras.reporting"),
    ("emokeras.recognizer",),
    ("emokeras.training", "emokeras.results"),
    COMMANDS,
    ("tuning",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for folder in ("emokeras", "tuning") for path in sorted((ROOT / folder).rglob("*.py"))}


def imported_names(source: str) -> set[str]:
    """Return the full names of all that a source imports, also inside of functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write `from emokeras.x import y`"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_of(name: str) -> str:
    """Return the module of ours that a name is in: emokeras.files for emokeras.files.home; "" for other packages."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name


NAMES = {module: imported_names(path.read_text(encoding="utf-8")) for module, path in FILES.items()}
IMPORTS = {module: {module_of(name) for name in names} - {module, ""} for module, names in NAMES.items()}


def room_of(module: str) -> str:
    """Return the room that a module is in; a module at the root of the package is a room of its own."""
    room = module
    while room not in FLOOR_OF:
        room = room.rpartition(".")[0]
    assert room != "emokeras" or module == room, f"{module} is on no floor of the design: give it a line in FLOORS"
    return room


def breaches(module: str, imports: set[str]) -> list[str]:
    """Return what a module imports and may not."""
    room, found = room_of(module), []
    for other in sorted(imports):
        is_below = FLOOR_OF[room_of(other)] < FLOOR_OF[room] or room_of(other) == room
        halves = {".".join(name.split(".")[:2]) for name in (module, other)}
        if not is_below or halves == {"emokeras.data", "emokeras.models"}:
            found.append(f"{module} (floor {FLOOR_OF[room]}) imports {other} (floor {FLOOR_OF[room_of(other)]})")
    return found


@pytest.mark.parametrize("module", FILES)
def test_imports_run_downward_only(module):
    assert not breaches(module, IMPORTS[module])


def test_no_modules_import_each_other_in_a_circle():
    list(graphlib.TopologicalSorter(IMPORTS).static_order())


def test_networks_import_no_backend():
    """They are written in Keras alone, so that they also train on its other backends."""
    for module, names in NAMES.items():
        if module.startswith("emokeras.models"):
            assert not {name for name in names if name.split(".")[0] in ("tensorflow", "jax", "torch")}, module


def test_what_is_done_with_answers_needs_no_network():
    packages = {name.split(".")[0] for name in NAMES["emokeras.recognizer.answers"]}
    assert packages == {"collections", "typing", "numpy"}


def test_commands_and_what_they_check_first_come_without_tensorflow():
    """TensorFlow takes seconds to import, which `--help` and a refusal must not wait for."""
    modules = ["emokeras", "emokeras.config", "emokeras.recipes", "emokeras.runs", "emokeras.training.resolve"]
    modules += ["emokeras.training.jobs", *COMMANDS]
    code = "import sys\n"
    code += f"for module in {modules!r}:\n    __import__(module)\n"
    code += "    assert not {'tensorflow', 'keras'} & set(sys.modules), module\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# That the tests above can fail


def test_the_imports_of_the_source_are_found():
    assert {"emokeras.data.features", "emokeras.data.augment"} <= IMPORTS["emokeras.data.pipeline"]
    assert "emokeras.training.run" in IMPORTS["emokeras.train"]  # inside a function
    names = imported_names("def f():\n    from emokeras.files import home\n    import emokeras.train as t")
    assert {module_of(name) for name in names} == {"emokeras.files", "emokeras.train"}


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("emokeras.errors", "emokeras.config"),
        ("emokeras.config.settings", "emokeras.recipes"),
        ("emokeras.commandline", "emokeras.config"),
        ("emokeras.models.encoders", "emokeras.models.build"),
        ("emokeras.models.encoders", "emokeras.data.features"),
        ("emokeras.models.build", "emokeras.data.features"),
        ("emokeras.data.pipeline", "emokeras.models.layers"),
        ("emokeras.data.audio", "emokeras.data.pipeline"),
        ("emokeras.data.activity", "emokeras.recognizer.answers"),
        ("emokeras.reporting.metrics", "emokeras.runs"),
        ("emokeras.runs.folder", "emokeras.training.fit"),
        ("emokeras.recognizer.answers", "emokeras.training.score"),
        ("emokeras.training.run", "emokeras.results.rows"),
        ("emokeras.predict", "emokeras.train"),
        ("emokeras.train", "tuning.search"),
    ],
)
def test_an_import_against_the_design_is_found(module, other):
    assert breaches(module, {other})

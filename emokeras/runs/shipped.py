"""The models that come with emokeras: in a checkout under saved_models/, or beside an installed package."""

import sysconfig
from pathlib import Path

from emokeras.errors import UsageError
from emokeras.runs.folder import newest_version

SHIPPED = ("speech", "small")  # the default first


def find_model(given: str | Path | None) -> Path:
    """Return the folder of a model: `given`, or one of SHIPPED by its name; the first of these for None. Raises
    UsageError when that is missing from a checkout or an installed wheel."""
    if given is not None and (str(given) not in SHIPPED or _is_model(Path(given))):
        return Path(given)
    name = str(given or SHIPPED[0])
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    installed = [Path(sysconfig.get_path("data", scheme)) / "share" / "emokeras" for scheme in schemes]
    for folder in (Path(__file__).parents[2], *installed):
        if (shipped := folder / "saved_models" / name).is_dir():
            return shipped
    raise UsageError(f"the model {name} is missing from the installation of emokeras: give another")


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file() or newest_version(path) is not None

"""The models that come with emokeras: in a checkout under saved_models/, or beside an installed package."""

import sysconfig
from pathlib import Path

from emokeras.errors import UsageError

SHIPPED = ("speech", "small")  # the default first


def shipped_model(name: str = SHIPPED[0]) -> Path:
    """Return the folder of a model that comes with emokeras, in a checkout or an installed wheel. Raises UsageError
    when it is missing."""
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    installed = [Path(sysconfig.get_path("data", scheme)) / "share" / "emokeras" for scheme in schemes]
    for folder in (Path(__file__).parents[2], *installed):
        if (shipped := folder / "saved_models" / name).is_dir():
            return shipped
    raise UsageError(f"the model {name} is missing from the installation of emokeras: give --model RUN|EXPORT")


def find_model(given: str | Path | None) -> Path:
    """Return the folder of a model: of one that comes with emokeras by its name, of the first of these for None."""
    if given is None or (str(given) in SHIPPED and not Path(given).exists()):
        return shipped_model(str(given or SHIPPED[0]))
    return Path(given)

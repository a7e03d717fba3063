"""How long a network trains on all clips: none is left by which to choose an epoch."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from emokeras.config import Config
from emokeras.reporting import runs
from emokeras.reporting.differences import differing_settings


def with_epochs_beside(config: Config, corpus_name: str, folder: Path, say: Callable) -> Config:
    """Return the configuration of a network that trains on all clips: it keeps its last epoch, which is the median of
    those at which the measured runs of the same settings that lie beside its folder were kept."""
    epochs, best_epochs = config.training.epochs, []
    for path in sorted(folder.absolute().parent.glob("*/predictions.csv")):  # What trained on all clips has none.
        run = path.parent
        if not all((run / name).is_file() for name in runs.RESULT_FILES):
            continue
        metrics, settings = runs.read_metrics(run), runs.read_json(run / "config.json")
        is_same = (metrics.get("recipe"), metrics.get("corpus")) == (config.recipe, corpus_name)
        if is_same and not differing_settings(settings, config):
            best_epochs.append(metrics["best_epoch"])
    if best_epochs:
        epochs = round(statistics.median(best_epochs))
        say(f"epochs: {epochs}, the median of those at which {len(best_epochs)} runs beside it were kept")
    elif config.training.select_by != "last":
        say(f"warning: all {epochs} epochs: no measured run of these settings lies beside it, to tell which are best")
    return replace(config, training=replace(config.training, epochs=epochs, select_by="last"))

"""Compare the wall time of a search with two workers and with one, each worker with one processor thread.

    python benchmarks/search_workers.py mel-cnn3 --corpus ravdess

Both search the same trials, of settings that take equal time. The result is added to results/search_workers.json. Where
the two processors are threads of one core, a second worker gains only what the first leaves idle: the less, the more a
recipe computes.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emokeras.runs import read_history

RESULTS = Path(__file__).parent / "results" / "search_workers.json"
GOAL = 1 / 0.7  # two workers take at most 0.7 of the time of one


def time_search(folder: Path, workers: int, recipe: str, corpus: str, trials: int, epochs: int) -> float:
    """Run one search; return its wall time in seconds. Raises RuntimeError unless every trial was trained once."""
    command = [sys.executable, "-m", "tuning.search", recipe, "--tuner", "random", "--corpus", corpus]
    command += ["--protocol", "luna" if corpus == "ravdess" else "speaker", "--only", "encoder.l2,model.dropout"]
    command += ["--max-trials", str(trials), "--epochs", str(epochs), "--search-dir", str(folder)]
    begin = time.monotonic()
    subprocess.run([*command, "--workers", str(workers), "--threads", "1"], check=True)
    seconds = time.monotonic() - begin
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        completed = [row["trial"] for row in csv.DictReader(file) if row["status"] == "COMPLETED"]
    trained = {path.parent.parent.name: len(read_history(path)) for path in folder.glob("trials/*/*/history.csv")}
    if len(completed) != trials or trained != dict.fromkeys(completed, epochs):
        raise RuntimeError(f"{folder}: {len(completed)} of {trials} trials completed; epochs trained: {trained}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="mel-cnn3", help="default: mel-cnn3")
    parser.add_argument("--corpus", default="ravdess", help="as `python -m tuning.search` takes it (default: ravdess)")
    parser.add_argument("--trials", type=int, default=8, metavar="N", help="of each search (default: 8)")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="of each trial (default: 4)")
    arguments = parser.parse_args()
    given = vars(arguments)
    with tempfile.TemporaryDirectory() as folder:
        seconds = {workers: time_search(Path(folder) / str(workers), workers, **given) for workers in (1, 2)}
    print(f"one worker {seconds[1]:.0f} s, two {seconds[2]:.0f} s: {seconds[2] / seconds[1]:.2f} of the time")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"ratios": {}, "searches": {}}
    ratio = {"measured": round(seconds[1] / seconds[2], 3), "goal": round(GOAL, 3)}
    results["ratios"][f"{arguments.recipe}: one worker's seconds / two workers'"] = ratio
    results["searches"][arguments.recipe] = given | {
        "seconds": {str(workers): round(own) for workers, own in seconds.items()}
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

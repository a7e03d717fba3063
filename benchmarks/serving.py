"""Time an exported model needs for a clip of 4 seconds, from the raw waveform to the probabilities.

    python benchmarks/serving.py saved_models/small/1

Writes benchmarks/results/serving-NAME.json. For one core: taskset -c 0 python benchmarks/serving.py ...
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from emokeras.commandline import import_tensorflow

RESULTS = Path(__file__).parent / "results"
CLIP_SECONDS = 4.0
GOALS_MILLISECONDS, OTHER_GOAL = {"speech": 120.0, "small": 15.0}, 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a SavedModel whose only input is a waveform")
    parser.add_argument("--rate", type=int, default=16000, metavar="HZ", help="its sample rate (default: 16000)")
    parser.add_argument("--calls", type=int, default=100, metavar="N", help="timed calls (default: 100)")
    arguments = parser.parse_args()
    import_tensorflow()
    import tensorflow as tf

    serve = tf.saved_model.load(str(arguments.model)).signatures["serving_default"]
    generator = np.random.default_rng(0)
    waveform = generator.normal(0, 0.1, (1, round(CLIP_SECONDS * arguments.rate)))
    waveform = tf.constant(waveform, tf.float32)
    serve(waveform=waveform)  # The first call initializes.
    milliseconds = []
    for _ in range(arguments.calls):
        begin = time.perf_counter()
        serve(waveform=waveform)["probabilities"].numpy()
        milliseconds.append(1000 * (time.perf_counter() - begin))
    median = float(np.median(milliseconds))
    print(f"{arguments.model}: {median:.1f} ms per clip (median of {arguments.calls})")
    name = arguments.model.absolute().parent.name
    goal = GOALS_MILLISECONDS.get(name, OTHER_GOAL)
    what = f"{goal:.0f} ms / milliseconds of a {CLIP_SECONDS:.0f}-second clip"
    report = {
        "ratios": {what: {"measured": round(goal / median, 3), "goal": 1.0}},
        "milliseconds": {"median": round(median, 2), "95 % of calls": round(float(np.percentile(milliseconds, 95)), 2)},
        "model": f"{name}/{arguments.model.name}",
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"serving-{name}.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How much sooner a spectrogram network learns a batch where its first convolution and the normalisation after it are
one layer (emokeras.models.layers.NormalizedConvolution), and not two.

    python benchmarks/normalized_convolution.py mel-resnet

Writes results/normalized_convolution.json beside it. Times are those of the processor, of one thread.
"""

import argparse
import json
import os
import time
from pathlib import Path
from unittest import mock

import numpy as np

os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

from emokeras.commandline import import_tensorflow

RESULTS = Path(__file__).parent / "results" / "normalized_convolution.json"


def milliseconds_of_a_batch(recipe: str, batches: int) -> float:
    """Return the median time in which the network of a recipe learns a batch of noise."""
    import keras

    from emokeras.config import with_experiment
    from emokeras.models.build import build_model
    from emokeras.recipes import find_recipe
    from emokeras.training.compile import compile_model

    config = with_experiment(find_recipe(recipe).config, emotions=tuple("abcdefgh"))
    keras.utils.set_random_seed(0)
    model = build_model(config)
    compile_model(model, config.training, batches)
    generator, clips = np.random.default_rng(0), config.training.batch_size
    inputs = {name: generator.normal(size=(clips, *tensor.shape[1:])) for name, tensor in model.input.items()}
    labels = {"emotion": np.eye(8)[generator.integers(0, 8, clips)]}
    times = []
    for _ in range(batches):
        begin = time.process_time()
        model.train_on_batch(inputs, labels)
        times.append(1000 * (time.process_time() - begin))
    return float(np.median(times[1:]))  # The first one is traced.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="one whose first convolution is of a spectrogram, and normalises")
    parser.add_argument(
        "--batches", type=int, default=21, metavar="N", help="of which the median is told (default: 21)"
    )
    arguments = parser.parse_args()
    import_tensorflow()
    import keras

    from emokeras.models import encoders

    def apart(filters, kernel_size, strides, momentum, kernel_regularizer):
        convolution = keras.layers.Conv2D(
            filters, kernel_size, strides, padding="same", use_bias=False, kernel_regularizer=kernel_regularizer
        )
        normalization = keras.layers.BatchNormalization(momentum=momentum)
        return lambda frames: normalization(convolution(frames))

    in_one = milliseconds_of_a_batch(arguments.recipe, arguments.batches)
    with mock.patch.object(encoders, "NormalizedConvolution", apart):
        as_two = milliseconds_of_a_batch(arguments.recipe, arguments.batches)
    print(f"{arguments.recipe}: {in_one:.0f} ms a batch, {as_two:.0f} ms as two layers")
    told = {
        "ratios": {"milliseconds as two layers / as one": {"measured": round(as_two / in_one, 3), "goal": 1.2}},
        "milliseconds": {"as one": round(in_one, 1), "as two": round(as_two, 1)},
        "recipe": arguments.recipe,
    }
    RESULTS.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()

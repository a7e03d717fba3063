"""A picture of where the branches of a network look at each other, over one clip."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from emokeras.config import Config
from emokeras.data.text import RESERVED, VOCABULARY_FILE, read_vocabulary
from emokeras.models.fusion import attention_layer
from emokeras.reporting import figures


def draw_attention(model: keras.Model, config: Config, clip: Mapping[str, np.ndarray], title: str, run: Path) -> Figure:
    """Draw the attention maps of the last block, one for each branch that looks at the others.

    Parameters
    ----------
    clip: the network's inputs for one window of one clip, [...] each.
    run: the run's folder, which has the vocabulary of a network that reads.
    """
    batch = {name: value[np.newaxis] for name, value in clip.items()}
    words = {name: _words(clip[name], config, run) if name == "tokens" else [] for name in config.encoders}
    maps = []
    for name in config.encoders:
        layer = model.get_layer(attention_layer(name, config.model.attention_blocks - 1))
        looks = layer.attention_map(keras.Model(model.inputs, layer.input)(batch))  # [1, steps, other steps]
        looks = keras.ops.convert_to_numpy(looks)[0]
        others = [other for other in config.encoders if other != name]
        # The steps of several others stand one after the other: they have no time in common.
        seconds = config.seconds_of(others[0]) if len(others) == 1 else None
        names = words[others[0]] if len(others) == 1 else []
        maps.append(
            figures.AttentionMap(looks, (name, *others), (config.seconds_of(name), seconds), (words[name], names))
        )
    return figures.attention_maps(maps, title)


def _words(tokens: np.ndarray, config: Config, run: Path) -> list[str]:
    """Return what each token stands for: a word, "?" for an unknown one, "" for none; a pretrained one's number."""
    if config.tokens.tokenizer != "words":
        return [str(token) for token in tokens]
    vocabulary = read_vocabulary(run / VOCABULARY_FILE)
    return ["" if token == 0 else "?" if token < RESERVED else vocabulary[token - RESERVED] for token in tokens]

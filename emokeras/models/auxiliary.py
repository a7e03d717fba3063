"""What a network learns beside the emotion, in training only: from a clip's name, who speaks, what and how strongly."""

from collections.abc import Mapping

import keras

from emokeras.models.fusion import EMBEDDING
from emokeras.models.layers import ReverseGradient


def with_auxiliaries(model: keras.Model, weights: Mapping[str, float], num_classes: Mapping[str, int]) -> keras.Model:
    """Return a network for training that shares all layers of `model` and has one more output for each auxiliary:
    {"emotion": logits [batch, emotions], "sex": logits [batch, 2]}.

    Where an auxiliary's weight is negative its gradient is turned round on the way into the shared layers: its head
    learns to tell what they learn to hide (Ganin et al., JMLR 17, 2016).
    """
    outputs = dict(model.output)
    for name, weight in weights.items():
        embedding = model.get_layer(EMBEDDING).output
        embedding = ReverseGradient()(embedding) if weight < 0 else embedding
        outputs[name] = keras.layers.Dense(num_classes[name], dtype="float32", name=f"{name}_logits")(embedding)
    return keras.Model(model.input, outputs, name=model.name)

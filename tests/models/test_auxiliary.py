"""Auxiliary heads share the network's body, pull at it or push against it, and are gone when the training is over."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny

from emokeras.config import override, with_experiment
from emokeras.data.ravdess import EMOTIONS as RAVDESS_EMOTIONS
from emokeras.models.auxiliary import with_auxiliaries
from emokeras.models.build import build_model
from emokeras.models.layers import ReverseGradient
from emokeras.recipes import RECIPES


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    config = override(tiny(RECIPES["mel-cnn3"].config), {"model.dropout": 0.0, "encoder.dropout": 0.0})
    return build_model(with_experiment(config, emotions=RAVDESS_EMOTIONS))


@pytest.fixture(scope="module")
def clips(network):
    random = np.random.default_rng(0)
    shapes = {name: (4, *value.shape[1:]) for name, value in network.input.items()}
    ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    return ones | {"spectrogram": random.normal(size=shapes["spectrogram"]).astype(np.float32)}


def test_the_emotion_is_that_of_the_network_itself(network, clips):
    learner = with_auxiliaries(network, {"sex": 0.3, "speaker": -0.1}, {"sex": 2, "speaker": 5})
    answers = learner(clips, training=False)
    np.testing.assert_array_equal(answers["emotion"], network(clips, training=False)["emotion"])
    assert {name: tuple(value.shape) for name, value in answers.items()} == {
        "emotion": (4, 8),
        "sex": (4, 2),
        "speaker": (4, 5),
    }


def test_the_network_keeps_its_one_output_and_learns_with_the_others(network, clips):
    learner = with_auxiliaries(network, {"sex": 1.0}, {"sex": 2})
    assert list(network.output) == ["emotion"]
    shared = {id(variable) for variable in network.trainable_variables}
    own = [variable for variable in learner.trainable_variables if id(variable) not in shared]
    assert [tuple(variable.shape) for variable in own] == [(64, 2), (2,)]
    assert shared < {id(variable) for variable in learner.trainable_variables}


def test_a_negative_weight_turns_the_gradient_round(network, clips):
    """The head itself learns the same; what is shared learns the opposite."""
    pull, push = (with_auxiliaries(network, {"sex": weight}, {"sex": 2}) for weight in (1.0, -1.0))
    for one, other in zip(pull.get_layer("sex_logits").weights, push.get_layer("sex_logits").weights, strict=True):
        other.assign(one)
    kernels = [layer.kernel for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]

    def gradients(learner):
        head = learner.get_layer("sex_logits").kernel
        with tf.GradientTape() as tape:
            loss = keras.losses.categorical_crossentropy(
                np.eye(2)[[0, 1, 1, 0]], learner(clips, training=False)["sex"], from_logits=True
            )
        return [gradient.numpy() for gradient in tape.gradient(loss, [head.value, *(k.value for k in kernels)])]

    (head, *shared), (other_head, *opposite) = gradients(pull), gradients(push)
    np.testing.assert_allclose(head, other_head, rtol=1e-5)
    for one, other in zip(shared, opposite, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(one, -other, rtol=1e-4, atol=1e-7)


def test_reversing_gives_out_what_comes_in():
    values = np.array([[1.5, -2.0, 0.0]], np.float32)
    np.testing.assert_array_equal(ReverseGradient()(values), values)

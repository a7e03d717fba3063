"""Every setting of an experiment, with its unit in its name: frozen dataclasses, dotted overrides, JSON in and out.

types        bounded numbers and sets of choices
inputs       waveform, features, tokens, augmentation
encoders     the encoder of a branch
experiment   one network (Config) or several (EnsembleConfig)
settings     override, JSON, keys of earlier versions
"""

from emokeras.config.encoders import (
    ENCODER_CONFIGS,
    WITHOUT_EFFECT,
    BertConfig,
    CnnConfig,
    ConvolutionalConfig,
    CrnnConfig,
    EncoderConfig,
    IdentityConfig,
    ImagenetConfig,
    RecurrentConfig,
    ResnetConfig,
    TcnConfig,
    TransformerConfig,
)
from emokeras.config.experiment import (
    SPEECH_RATE_HZ,
    AnyConfig,
    Config,
    EnsembleConfig,
    ExperimentConfig,
    ModelConfig,
    TrainingConfig,
)
from emokeras.config.inputs import (
    DEFAULT_WHISPER,
    GIVE_BERT,
    GIVE_SPEECH_ENCODER,
    AudioConfig,
    AugmentConfig,
    MfccConfig,
    ProsodyConfig,
    SpectrogramConfig,
    SpeechConfig,
    TokensConfig,
)
from emokeras.config.settings import (
    changed,
    ensemble_of,
    from_json,
    override,
    read_config,
    read_config_to_train,
    settings,
    to_json,
    upgrade,
    with_experiment,
)
from emokeras.config.types import (
    MAX_SEED,
    EnsembleMethod,
    InputName,
    MeasuredProtocol,
    Pooling,
    ProtocolName,
)

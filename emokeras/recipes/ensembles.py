"""Recipes made of several trained networks: ensembles (late fusion), and networks whose branches start from runs.

`train` trains the members and branches that are missing. Figures: WA % on `random`, UA % on `luna`.
"""

from dataclasses import replace

from emokeras.config import Config, EnsembleConfig, EnsembleMethod, ModelConfig, TrainingConfig
from emokeras.recipes import ours, reports
from emokeras.recipes.shared import AUGMENTATION, LIGHT_AUGMENTATION, OUR_TRAINING, Recipe

SINGLE = reports.RECIPES | ours.RECIPES
MEL_AND_MFCC = ("mel-resnet", "mfcc-tcn")
JOINED_MODEL = ModelConfig(hidden_units=(), dropout=0.3, branches=MEL_AND_MFCC)
# The branches are trained already: first only what joins them is trained, then everything with a small learning rate.
# The validation loss of early-mel-mfcc was 0.44 with a random head, 0.32 with the mean of the branches' heads.
JOINED_TRAINING = TrainingConfig(
    epochs=16,
    batch_size=32,
    frozen_epochs=6,
    learning_rate=1e-3,
    unfrozen_learning_rate=2e-4,
    warmup_epochs=1.0,
    weight_decay=2e-2,
    ema_momentum=0.99,
    select_by="last",
)


def _branches(*names: str) -> dict:
    """Return the sections of a configuration that has the inputs and encoders of these recipes."""
    configs = [SINGLE[name].config for name in names]
    inputs = {name: (config, encoder) for config in configs for name, encoder in config.encoders.items()}
    return {
        "encoders": {
            name: replace(encoder, pooling=config.pooling_of(name)) for name, (config, encoder) in inputs.items()
        },
        "audio": configs[0].audio,
        **{name: getattr(config, name) for name, (config, _) in inputs.items()},
    }


def _joined(recipe: str, model: ModelConfig) -> Config:
    """Return a network that starts from the recipes which its model names as branches."""
    augment = replace(AUGMENTATION, band_mask_bands=6)
    return Config(recipe=recipe, **_branches(*model.branches), augment=augment, model=model, training=JOINED_TRAINING)


def _ensemble(recipe: str, method: EnsembleMethod, *names: str, weights: tuple[float, ...] = ()) -> EnsembleConfig:
    return EnsembleConfig(recipe, {name: SINGLE[name].config for name in names}, method, weights=weights)


FLAGSHIP = ("mel-resnet-muon", "mfcc-resnet-muon", "mfcc-delta-tcn-muon-long", "prosody-tcn-muon")


RECIPES = {
    # python -m emokeras.train early-mel-mfcc --corpus ravdess --protocol random  # mel and MFCCs; random 89.7
    "early-mel-mfcc": Recipe(
        "A: the CNNs on mel spectrograms and MFCCs into one dense head; ours joins the strongest branch of each",
        _joined("early-mel-mfcc", JOINED_MODEL),
        reported="68, validation",
    ),
    # python -m emokeras.train late-mel-mfcc --corpus ravdess --protocol luna  # mel and MFCCs; random 89.1
    "late-mel-mfcc": Recipe(
        "A: the mean of the logits before softmax; C: mean or vote",
        _ensemble("late-mel-mfcc", "mean-logits", *MEL_AND_MFCC),
    ),
    # python -m emokeras.train weighted-mel-mfcc --corpus ravdess --protocol luna  # mel, MFCCs; random 89.2, luna 73.4
    "weighted-mel-mfcc": Recipe(
        "A: tuned ensemble weights, future work; ours minimize the cross-entropy on validation",
        _ensemble("weighted-mel-mfcc", "weighted", *MEL_AND_MFCC),
    ),
    # python -m emokeras.train flagship --corpus ravdess --protocol luna  # mel, MFCCs, prosody; random 92.6, luna 73.5
    "flagship": Recipe(
        "ours: the mean of four networks on mel bands, MFCCs, MFCCs with deltas in a longer window, and prosody",
        # Of the sets of four that were tried, the least loss on the validation speakers of two splits
        # (results/ablation.md). Its members are refitted on the validation clips, so no weights can be fitted there.
        _ensemble("flagship", "mean-logits", *FLAGSHIP),
    ),
    # python -m emokeras.train flagship-speech --corpus ravdess --protocol luna  # Whisper, mel, MFCCs ...; luna 79.0
    "flagship-speech": Recipe(
        "ours: speech-tcn and flagship, half and half",
        # Validation loss on luna's first three folds: 0.57; speech-tcn alone 0.61, flagship 0.79, equal weights 0.65.
        _ensemble("flagship-speech", "weighted", "speech-tcn", *FLAGSHIP, weights=(4.0, 1.0, 1.0, 1.0, 1.0)),
    ),
    # python -m emokeras.train attention-mel-mfcc --corpus ravdess --protocol random  # mel and MFCCs; random 85.1
    "attention-mel-mfcc": Recipe(
        "A, B: attention fusion, multimodal transformer, future work",
        _joined("attention-mel-mfcc", replace(JOINED_MODEL, fusion="attention", dropout=0.2)),
    ),
    # python -m emokeras.train attention-mel-text --corpus ravdess --protocol random  # mel and transcripts; random 85.1
    "attention-mel-text": Recipe(
        "A, B: attention fusion of audio and words",
        Config(
            recipe="attention-mel-text",
            **_branches("mel-cnn3", "text-bigru"),
            augment=LIGHT_AUGMENTATION,
            model=ModelConfig(hidden_units=(), dropout=0.2, fusion="attention"),
            training=replace(OUR_TRAINING, epochs=40),
        ),
    ),
    # python -m emokeras.train hybrid-mel-mfcc-text --corpus ravdess --protocol random  # all three; random 89.9
    "hybrid-mel-mfcc-text": Recipe(
        "B: hybrid fusion, future work: early and late together",
        _joined("hybrid-mel-mfcc-text", replace(JOINED_MODEL, fusion="hybrid", branches=(*MEL_AND_MFCC, "text-bigru"))),
    ),
}

"""The types of settings: bounded numbers, names, and the closed sets of choices."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
MAX_SEED = 2**31 - 1

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

InputName = Literal["spectrogram", "mfcc", "prosody", "speech", "tokens"]
MeasuredProtocol = Literal[
    "random", "random-10fold", "luna", "emobox", "speaker", "speaker-kfold", "loso", "left-out", "given"
]
ProtocolName = Literal[MeasuredProtocol, "all"]
Pooling = Literal["mean", "max", "mean-max", "attention", "attentive-statistics", "flatten"]
BranchFusion = Literal["early", "attention", "hybrid"]
EnsembleMethod = Literal["mean-logits", "mean-probabilities", "vote", "weighted", "stacking"]


def _check_folder_name(name: str) -> str:
    if not name or name.startswith(".") or not {"/", "\\"}.isdisjoint(name):
        raise ValueError("it names a folder: leave out slashes and a leading dot")
    return name


Name = Annotated[str, AfterValidator(_check_folder_name)]  # of a recipe, or of a member of an ensemble

"""python -m emokeras: list the commands."""

COMMANDS = {
    "prepare": "download, verify and decode a corpus",
    "transcribe": "transcribe every clip of a corpus with Whisper",
    "train": "train a recipe on one split and test it once",
    "ensemble": "combine trained runs into one recognizer",
    "evaluate": "measure a run or an exported model on corpora and under recording conditions",
    "predict": "recognize the emotion in recordings",
    "adapt": "fit a model to your own labelled recordings, in a minute",
    "export": "write a run as one SavedModel that takes waveforms",
    "benchmark": "train recipes on every fold and seed, and write RESULTS.md",
}


def main() -> int:
    """Print the commands."""
    print("emokeras: speech emotion recognition. Each command has --help.\n")
    for name, purpose in COMMANDS.items():
        print(f"  python -m emokeras.{name:<10}  {purpose}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

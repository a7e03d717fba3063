"""python -m emokeras: what the commands are, one line each."""

COMMANDS = {
    "prepare": "fetch, verify, index and decode a corpus",
    "transcribe": "write down what Whisper hears in every clip of a corpus",
    "train": "train one recipe on one split and score it on the test subset",
    "ensemble": "make one recogniser of several trained runs",
    "evaluate": "measure a run or an exported model on a corpus",
    "predict": "say which emotion a recording expresses",
    "export": "write a run as one SavedModel that takes raw waveforms",
    "benchmark": "train recipes on every fold and seed, and write RESULTS.md",
}


def main() -> int:
    """Print the commands."""
    print("emokeras: speech emotion recognition. Each command answers --help.\n")
    for name, purpose in COMMANDS.items():
        print(f"  python -m emokeras.{name:<10}  {purpose}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

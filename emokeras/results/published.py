"""What others have published for the same splits, to stand beside what was measured here."""

from emokeras.reporting.texts import markdown_table

# (corpus, protocol) -> rows of (system, figure in percent, what is to be known of it)
PUBLISHED = {
    ("ravdess", "random"): (
        ("the best of the five student reports", "80", "own split, a pretrained ResNet-18 beside it"),
    ),
    ("ravdess", "random-10fold"): (
        ("TIM-Net (Ye et al. 2023), last epoch", "WA 90.07, UA 90.04", "no other speech heard"),
        ("TIM-Net, as published", "WA 92.08", "the best epoch on test"),
    ),
    ("ravdess", "luna"): (
        ("ResLSTM-SA, 10 seeds", "UA 62.3 ± 1.2", "no other speech heard; settings tuned on test"),
        ("people (Livingstone & Russo 2018)", "about 67", "as Luna-Jiménez et al. quote them"),
        ("PANNs CNN-14, fine-tuned (Luna-Jiménez et al. 2021)", "WA 76.6", "pretrained; checkpoint chosen on test"),
        ("XLSR wav2vec 2.0, fine-tuned (Luna-Jiménez et al. 2022)", "WA 81.8", "pretrained; checkpoint chosen on test"),
    ),
    ("ravdess", "emobox"): tuple(
        (f"{model}, frozen (EmoBox, Ma et al. 2024)", f"WA {figure}", "pretrained")
        for model, figure in (
            ("wav2vec 2.0 base", "55.4"),
            ("WavLM base", "62.1"),
            ("HuBERT base", "66.2"),
            ("HuBERT large", "70.3"),
            ("WavLM large", "72.2"),
            ("Whisper large v3", "75.9"),
        )
    ),
}


def published_section(corpus: str, protocol: str) -> list[str]:
    """Return the lines of a corpus's and protocol's published figures; none where none are known."""
    rows = PUBLISHED.get((corpus, protocol))
    if not rows:
        return []
    table = [dict(zip(("system", "figure, %", "remark"), row, strict=True)) for row in rows]
    return ["#### Published for this protocol", "", *markdown_table(table, ("system", "figure, %", "remark")), ""]

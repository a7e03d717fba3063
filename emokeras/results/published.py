"""Figures that others have published for the same splits."""

from dataclasses import dataclass

from emokeras.reporting.texts import markdown_table


@dataclass(frozen=True)
class Published:
    """One published system, with the paper it is from.

    `wa` and `ua` are its figures in percent, as text. `pretrained`: whether it was pretrained on other data; None for
    what is not a system. `chosen_on_test`: what was chosen by the clips that the figure is of, which makes it too high.
    """

    system: str
    source: str = ""
    wa: str = ""
    ua: str = ""
    pretrained: bool | None = False
    chosen_on_test: str = ""
    remark: str = ""

    @property
    def figures(self) -> str:
        return ", ".join(f"{name} {figure}" for name, figure in (("WA", self.wa), ("UA", self.ua)) if figure)

    @property
    def percent(self) -> float:
        """The figure by which systems are ranked: WA, or UA where WA is not published."""
        return float((self.wa or self.ua).split()[0])


# By (corpus, protocol).
PUBLISHED = {
    ("ravdess", "random"): (
        Published("student report D", wa="69.28", remark="a CNN of 6 layers, on a split of its own"),
        Published(
            "student report A",
            wa="75",
            chosen_on_test="epoch",
            remark="a CNN of 3 layers, on validation clips of a split of its own",
        ),
        Published(
            "student report E",
            wa="80",
            pretrained=True,
            remark="a CNN and a pretrained ResNet-18, on a split of its own; the subset is not stated",
        ),
    ),
    ("ravdess", "random-10fold"): (
        Published("TIM-Net", "Ye et al. 2023", wa="90.07", ua="90.04", remark="the last epoch"),
        Published("TIM-Net", "Ye et al. 2023", wa="92.08", chosen_on_test="epoch", remark="as published"),
    ),
    ("ravdess", "luna"): (
        Published("ResLSTM-SA", ua="62.3 ± 1.2", chosen_on_test="settings", remark="10 seeds"),
        Published(
            "human listeners",
            "Livingstone & Russo 2018",
            wa="67",
            pretrained=None,
            remark="about, as Luna-Jiménez et al. quote it",
        ),
        Published(
            "PANNs CNN-14, fine-tuned",
            "Luna-Jiménez et al. 2021",
            wa="76.6",
            pretrained=True,
            chosen_on_test="checkpoint",
        ),
        Published(
            "XLSR wav2vec 2.0, fine-tuned",
            "Luna-Jiménez et al. 2022",
            wa="81.8",
            pretrained=True,
            chosen_on_test="checkpoint",
        ),
    ),
    ("ravdess", "emobox"): tuple(
        Published(f"{model}, frozen", "EmoBox, Ma et al. 2024", wa=figure, pretrained=True)
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


def best_published(corpus: str, protocol: str, pretrained: bool) -> Published | None:
    """Return the system with the highest figure, among those with nothing chosen on test where there are any; None
    where nothing is published."""
    systems = [one for one in PUBLISHED.get((corpus, protocol), ()) if one.pretrained is pretrained]
    return max(systems, key=lambda one: (not one.chosen_on_test, one.percent), default=None)


def published_section(corpus: str, protocol: str) -> list[str]:
    """Return the lines of the published figures; none where none are known."""
    systems = PUBLISHED.get((corpus, protocol))
    if not systems:
        return []
    table = [
        {
            "system": one.system,
            "source": one.source or "–",
            "WA %": one.wa or "–",
            "UA %": one.ua or "–",
            "pretrained": {True: "yes", False: "no", None: "–"}[one.pretrained],
            "chosen on test": one.chosen_on_test or "–",
            "remark": one.remark,
        }
        for one in systems
    ]
    texts = ("system", "source", "pretrained", "chosen on test", "remark")
    return ["### Published for this protocol", "", *markdown_table(table, texts), ""]

"""The embedded demo corpus: synthetic expressive speech, made in seconds from a seed, named and laid out as RAVDESS is.

The emotion is in how a sentence is spoken (pitch, energy, tempo, voice quality) and, in about half of the adjectives,
in its words. In a fifth of the clips the voice is nearly neutral, so that audio and text together carry more than audio
alone. Most cues change over time (contours, rhythm, attacks, tremor) and show little in the average spectrum, so that a
model has to use the whole clip. Each clip is drawn from its own random generator: its samples depend on the seed and
the clip alone.
"""

from emokeras.data.demo.corpus import DEMO_VERSION, make_demo_corpus

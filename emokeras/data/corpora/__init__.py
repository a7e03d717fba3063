"""Corpora: which recordings there are, who speaks and which emotion. `load_corpus` goes this way, a module per step:

load       finds the path of a corpus, makes the Corpus
layouts    files -> clips, by a manifest, file names (ravdess, emodb) or folder names
contents   clips -> content hashes and waveforms, in one decode; copies merged
clips      Clip, Corpus, the names of emotions
download   fetches and unpacks an archive, for `emokeras.prepare`
"""

from emokeras.data.corpora.clips import (
    COMMON_EMOTIONS,
    EMOTIONS,
    SYNONYMS,
    Clip,
    Corpus,
    canonical_emotion,
    count_and_name,
    for_each_corpus,
    join_corpora,
    map_emotions,
)
from emokeras.data.corpora.layouts import GRAMMARS
from emokeras.data.corpora.load import (
    NAMES,
    absolute_source,
    default_source,
    load_corpus,
    pointer_path,
    prepared_path,
    split_source,
)

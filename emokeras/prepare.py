"""python -m emokeras.prepare --corpus ravdess

Make a corpus ready on this machine: fetch its archive (208 MB for RAVDESS), check the checksum, unpack, index every
clip and decode it once. With --source, take an archive or a folder that is there already: the archive is unpacked into
the cache folder, the folder stays where it is and is remembered. From then on `--corpus ravdess` means it.
"""

import argparse
import dataclasses
import difflib
import hashlib
import re
import shutil
import sys
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from emokeras.commandline import make_parser, run_command

if TYPE_CHECKING:
    from emokeras.data.corpora import Corpus


def prepare(corpus: str, source: str | None = None, md5: str | None = None) -> "Corpus":
    """Fetch, verify, unpack, index and decode a corpus, and say what it holds.

    Parameters
    ----------
    corpus: "ravdess", "emodb" or "demo".
    source: a zip archive, a folder, or the http(s) address of an archive; None is where the corpus is published.
    md5: the archive's MD5 checksum; None is the published one where `source` is None, else none is checked.

    Returns
    -------
    The corpus, as `load_corpus(corpus)` gives it from now on. One that is prepared already stays as it is.

    Raises
    ------
    UsageError: an unknown corpus, or arguments that do not go together. DownloadError: the archive cannot be fetched,
    is not the right one or not safe to unpack. CorpusError: what is there is not this corpus.
    """
    from emokeras.config import AudioConfig
    from emokeras.data import audio
    from emokeras.data.corpora import load_corpus

    _check_arguments(corpus, source, md5)
    if corpus != "demo" and not _is_prepared(corpus):
        _install(corpus, source, md5)
    loaded = load_corpus(corpus)
    print(describe(loaded))
    audio.load_waveforms(loaded.clips, AudioConfig().sample_rate_hz)
    return loaded


def describe(corpus: "Corpus") -> str:
    """Return a table of a corpus's clips per emotion, its speakers, and its notes, in lines."""
    counts = Counter(clip.emotion for clip in corpus.clips)
    sex_of = {clip.speaker: clip.sex for clip in corpus.clips if clip.speaker}
    by_sex = ", ".join(f"{count} {sex}" for sex, count in sorted(Counter(sex_of.values()).items()) if sex)
    rows = [(emotion, counts[emotion]) for emotion in corpus.emotions]
    rows += [("clips", len(corpus.clips)), ("recordings", len({clip.content for clip in corpus.clips}))]
    lines = [f"{corpus.name}: {note}" for note in corpus.notes]
    lines += [f"{name:<12}{count:>6}" for name, count in rows]
    lines.append(f"{'speakers':<12}{len(sex_of):>6}" + (f" ({by_sex})" if by_sex else ""))
    return "\n".join(lines)


def _check_arguments(corpus: str, source: str | None, md5: str | None) -> None:
    from emokeras.data.corpora import NAMES
    from emokeras.errors import UsageError

    if corpus not in NAMES:
        near = difflib.get_close_matches(corpus, NAMES, 1, 0.0)[0]
        raise UsageError(
            f"there is no corpus '{corpus}' to prepare; did you mean '{near}'? There are {', '.join(NAMES)}; "
            "any folder, zip or manifest.csv needs no preparing, give it to --corpus of the other commands"
        )
    if corpus == "demo" and (source or md5):
        raise UsageError("the demo corpus is made, not fetched: leave out --source and --md5")
    if md5 is not None and not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
        raise UsageError(f"--md5 {md5}: an MD5 checksum is 32 hexadecimal digits")
    if source is None:
        return
    if "://" in source:
        if not source.lower().startswith(("http://", "https://")):
            raise UsageError(f"--source {source}: give an http or https address, a zip archive or a folder")
        return
    path = Path(source).expanduser()
    if not path.exists():
        raise UsageError(f"--source {source}: there is no such file or folder")
    if path.is_dir() and md5:
        raise UsageError("--md5 is the checksum of an archive, and --source is a folder: leave one of the two out")


def _is_prepared(corpus: str) -> bool:
    from emokeras.data.corpora import pointer_path, prepared_path

    path, pointer = prepared_path(corpus), pointer_path(corpus)
    if path is None:
        return False
    to_delete = path if path == pointer.with_suffix("") else pointer
    print(f"{corpus} is prepared already: {path} (nothing is changed; to prepare it anew, delete {to_delete} first)")
    return True


def _install(corpus: str, source: str | None, md5: str | None) -> None:
    """Bring a corpus to where `load_corpus` finds it."""
    from emokeras.data.corpora import GRAMMARS, download
    from emokeras.errors import CorpusError, DownloadError

    archive = GRAMMARS[corpus].ARCHIVE
    if source is None:
        archive = dataclasses.replace(archive, md5=md5 or archive.md5)
    elif "://" in source:
        archive = download.Archive(source, md5=md5)
    else:
        path = Path(source).expanduser().absolute()
        if path.is_dir():
            _remember_folder(corpus, path)
            return
        download.verify(path, md5)
        _unpack(corpus, path)
        return
    if archive.md5 is None:
        print(f"no checksum is known of {archive.url}: it is not verified (--md5 SUM gives one)")
    target = _download_path(archive.url)
    download.download(archive, target)
    try:
        _unpack(corpus, target)
    except (DownloadError, CorpusError):  # What cannot be unpacked has to be fetched anew.
        shutil.rmtree(target.parent)
        raise
    shutil.rmtree(target.parent)


def _download_path(url: str) -> Path:
    """A folder for each address, so that what is left of one download is never taken for the beginning of another."""
    from emokeras.files import home

    name = PurePosixPath(url.split("?")[0]).name or "archive.zip"
    return home() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:12] / name


def _unpack(corpus: str, archive: Path) -> None:
    from emokeras.data.corpora import download
    from emokeras.files import home

    folder = home() / "corpora" / corpus
    download.unpack(archive, folder)
    try:
        _check_kind(corpus, folder, archive)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    print(f"unpacked {archive.name} into {folder}")


def _remember_folder(corpus: str, folder: Path) -> None:
    from emokeras.data.corpora import pointer_path

    _check_kind(corpus, folder, folder)
    pointer = pointer_path(corpus)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.write_text(f"{folder}\n", encoding="utf-8")
    print(f"{folder} stays where it is; {pointer} remembers it")


def _check_kind(corpus: str, path: Path, source: Path) -> None:
    from emokeras.data.corpora import GRAMMARS, load_corpus
    from emokeras.errors import CorpusError

    if load_corpus(path).name != corpus:
        grammar = GRAMMARS[corpus]
        raise CorpusError(
            f"{source} does not hold {grammar.TITLE}, whose files have names like {grammar.EXAMPLE_NAME}: "
            "give another --source, or give this one to --corpus of the other commands as it is"
        )


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("emokeras.prepare", __doc__)
    parser.add_argument("--corpus", default="ravdess", metavar="ravdess|emodb|demo", help="default: ravdess")
    parser.add_argument("--source", metavar="FILE.zip|DIR|URL", help="instead of where the corpus is published")
    parser.add_argument("--md5", metavar="SUM", help="the checksum that the archive of --source must have")
    return run_command(_run, parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> None:
    prepare(arguments.corpus, arguments.source, arguments.md5)


if __name__ == "__main__":
    sys.exit(main())

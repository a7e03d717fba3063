"""Prepare a corpus on this machine.

    python -m emokeras.prepare --corpus ravdess

Download its archive (208 MB for RAVDESS), verify the checksum, unpack it, list the clips and decode each once. --source
takes an archive or a folder that is there already: an archive is unpacked into the cache folder, a folder is used in
place. From then on `--corpus ravdess` means this corpus.
"""

import argparse
import dataclasses
import difflib
import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from emokeras import commandline
from emokeras.config import AudioConfig
from emokeras.errors import CorpusError, DownloadError, UsageError
from emokeras.files import home

if TYPE_CHECKING:
    from emokeras.data.corpora import Corpus


def prepare(corpus: str, *, source: str | None = None, md5: str | None = None) -> "Corpus":
    """Download, verify, unpack and decode a corpus, and print what it contains.

    Parameters
    ----------
    corpus: "ravdess", "emodb" or "demo".
    source: a zip archive, a folder, or the http(s) address of an archive; by default where the corpus is published.
    md5: the archive's MD5 checksum; by default the published one, and none for another `source`.

    Returns
    -------
    The corpus, as `load_corpus(corpus)` returns it from now on. A corpus that is prepared already is not changed.

    Raises
    ------
    UsageError: an unknown corpus, or arguments that do not go together. DownloadError: the archive cannot be fetched,
    is not the right one, or is not safe to unpack. CorpusError: the source is not this corpus.
    """
    from emokeras.data import audio
    from emokeras.data.corpora import load_corpus

    _check_arguments(corpus, source, md5)
    if corpus != "demo" and not _is_prepared(corpus):
        _install(corpus, source, md5)
    sample_rate_hz = AudioConfig().sample_rate_hz
    loaded = load_corpus(corpus, sample_rate_hz)
    print(describe(loaded))
    audio.load_waveforms(loaded.clips, sample_rate_hz)
    return loaded


def describe(corpus: "Corpus") -> str:
    """Return lines: the corpus's notes, its clips of each emotion, and its speakers."""
    counts = Counter(clip.emotion for clip in corpus.clips)
    sexes = Counter({clip.speaker: clip.sex for clip in corpus.clips if clip.speaker}.values())
    by_sex = ", ".join(f"{count} {sex}" for sex, count in sorted(sexes.items()) if sex)
    rows = [(emotion, counts[emotion]) for emotion in corpus.emotions]
    rows += [("clips", len(corpus.clips)), ("recordings", len({clip.content for clip in corpus.clips}))]
    rows += [("speakers", len(corpus.speakers))]
    lines = [f"{corpus.name}: {note}" for note in corpus.notes] + [f"{name:<12}{count:>6}" for name, count in rows]
    return "\n".join(lines) + (f" ({by_sex})" if by_sex else "")


def _check_arguments(corpus: str, source: str | None, md5: str | None) -> None:
    from emokeras.data.corpora import NAMES

    if corpus not in NAMES:
        near = difflib.get_close_matches(corpus, NAMES, 1, 0.0)[0]
        raise UsageError(
            f"there is no corpus '{corpus}' to prepare; did you mean '{near}'? The names are {', '.join(NAMES)}; "
            "any folder, zip or manifest.csv needs no preparation: give it to --corpus of the other commands"
        )
    if corpus == "demo" and (source or md5):
        raise UsageError("the demo corpus is made, not downloaded: leave out --source and --md5")
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
        raise UsageError("--md5 is the checksum of an archive, and --source is a folder: leave out one of them")


def _is_prepared(corpus: str) -> bool:
    from emokeras.data.corpora import pointer_path, prepared_path

    path, pointer = prepared_path(corpus), pointer_path(corpus)
    if path is None:
        return False
    to_delete = path if path == pointer.with_suffix("") else pointer
    print(f"{corpus} is prepared already: {path} (nothing changed; to prepare it again, delete {to_delete} first)")
    return True


def _install(corpus: str, source: str | None, md5: str | None) -> None:
    """Put a corpus where `load_corpus` finds it."""
    from emokeras.data.corpora import GRAMMARS, download

    if source is None:
        archive = GRAMMARS[corpus].ARCHIVE
        archive = dataclasses.replace(archive, md5=md5 or archive.md5)
    elif "://" in source:
        archive = download.Archive(source, md5=md5)
    else:
        path = Path(source).expanduser().absolute()
        if path.is_dir():
            _use_in_place(corpus, path)
        else:
            download.verify(path, md5)
            _unpack(corpus, path)
        return
    if archive.md5 is None:
        print(f"{archive.url} has no known checksum: it is not verified (--md5 SUM gives one)")
    # A folder for each address: an unfinished download is never continued from another address.
    folder = home() / "downloads" / hashlib.sha256(archive.url.encode()).hexdigest()[:12]
    target = folder / (PurePosixPath(archive.url.split("?")[0]).name or "archive.zip")
    download.download(archive, target)
    try:
        _unpack(corpus, target)
    except (DownloadError, CorpusError):  # What cannot be unpacked has to be downloaded again.
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _unpack(corpus: str, archive: Path) -> None:
    from emokeras.data.corpora import download

    folder = home() / "corpora" / corpus
    download.unpack(archive, folder)
    try:
        _check_kind(corpus, folder, archive)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    print(f"unpacked {archive.name} into {folder}")


def _use_in_place(corpus: str, folder: Path) -> None:
    from emokeras.data.corpora import pointer_path

    _check_kind(corpus, folder, folder)
    pointer = pointer_path(corpus)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.write_text(f"{folder}\n", encoding="utf-8")
    print(f"{folder} is used in place; its path is in {pointer}")


def _check_kind(corpus: str, path: Path, source: Path) -> None:
    """Raise CorpusError where the files at `path`, from `source`, are not this corpus."""
    from emokeras.data.corpora import GRAMMARS, load_corpus

    if load_corpus(path, AudioConfig().sample_rate_hz).name != corpus:
        grammar = GRAMMARS[corpus]
        raise CorpusError(
            f"{source} is not {grammar.TITLE}, whose files have names such as {grammar.EXAMPLE_NAME}: "
            "give another --source, or give this one to --corpus of the other commands"
        )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.prepare", __doc__)
    parser.add_argument("--corpus", default="ravdess", metavar="ravdess|emodb|demo", help="default: ravdess")
    parser.add_argument("--source", metavar="FILE.zip|DIR|URL", help="instead of where the corpus is published")
    parser.add_argument("--md5", metavar="SUM", help="the MD5 checksum that the archive of --source must have")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    prepare(arguments.corpus, source=arguments.source, md5=arguments.md5)


if __name__ == "__main__":
    raise SystemExit(main())

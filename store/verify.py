"""Reading every byte of a run again, against what was recorded when it was written."""

from pathlib import Path

from store.files import check_hash, read_table
from store.runs import read_ending
from store.shards import commits, files, read_commit


def verify(directory: Path) -> int:
    """Check every file of a run and count their bytes; raises DamagedError at the first wrong one.

    The commit records of a sealed run are vouched for by its end.json; those of a run that has not
    ended by the checksums of their pages.
    """
    total, ending = 0, read_ending(directory)
    for file in ending.commits if ending else ():
        check_hash(directory, file)
    for path in commits(directory):
        read_table(path)
        for file in files(read_commit(path)):
            check_hash(directory, file)
            total += file.bytes
    return total

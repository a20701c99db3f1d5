"""The library that stands between a process and its files (``interpose.c``)."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .fault import ACTIONS, MOMENTS, Fault

_VARIABLE = "LD_PRELOAD"
_SOURCE = Path(__file__).with_name("interpose.c")
_NAME = "libshardplan-faults.so"


def restart_with_library() -> None:
    """Builds the library, and replaces this process with one that has it preloaded."""
    if _NAME in os.environ.get(_VARIABLE, ""):
        return
    folder = tempfile.mkdtemp(prefix="shardplan-faults-library-")
    library = Path(folder, _NAME)
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-D_FORTIFY_SOURCE=0", _SOURCE, "-o", library],
        check=True,
    )
    os.environ[_VARIABLE] = str(library)
    os.execv(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]])


def remove_library() -> None:
    library = Path(os.environ[_VARIABLE])
    library.unlink()
    library.parent.rmdir()


class Interposer:
    """The preloaded library, in a process that has one fault at most."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)

    def watch(self, directory: Path) -> None:
        """Counts the calls that concern files in a directory, from now on."""
        self._library.faults_watch(os.fsencode(directory))

    def arm(self, fault: Fault, call: int) -> None:
        """Puts a fault at a call, which is counted from 0."""
        moment, action = MOMENTS.index(fault.moment), ACTIONS.index(fault.action)
        self._library.faults_arm(call, moment, action, fault.error)

    def calls(self) -> str:
        """The kind of each call so far, as a letter of ``interpose.c``."""
        kinds = ctypes.c_char_p()
        count = self._library.faults_calls(ctypes.byref(kinds))
        return (kinds.value or b"").decode()[:count]

    def fired(self) -> bool:
        return bool(self._library.faults_fired())

"""The wall clock of a server as a test wants it (clock_shim.c)."""

import os
import struct
import subprocess

from harness import ROOT


class Clock:
    """The wall clock of a server, which only it sees."""

    def __init__(self, folder):
        self.path = f"{folder}/clock"
        self.library = f"{folder}/clock.so"
        self.set(0)
        subprocess.run(["clang-16", "-shared", "-fPIC", "-O1", "-o", self.library, f"{ROOT}/tests/e2e/clock_shim.c"],
                       check=True)
        for path in (folder, self.path, self.library):
            os.chmod(path, 0o755)

    def set(self, offset_s):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as file:
            file.write(struct.pack("<q", offset_s))

    def wrap(self):
        return ["env", f"LD_PRELOAD={self.library}", f"HOURZ_TEST_CLOCK={self.path}"]

"""Small file systems that can be filled up under a server: one for its data, one for PostgreSQL's log alone."""

import contextlib
import os
import shutil
import subprocess

import pytest

from harness import Server, prepared_directory, run_as, scratch

MIB = 1 << 20


def mount(path, options):
    """Whether a tmpfs could be mounted there."""
    return os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False).returncode == 0


def can_mount():
    with scratch() as folder:
        if not mount(folder, "size=1m"):
            return False
        subprocess.run(["umount", "-l", folder], check=True)
        return True


class Volume:
    """A tmpfs that is there for as long as it is entered, root's or `owner`'s. Skips where nothing can be mounted."""

    def __init__(self, path, size_mib, owner=None):
        self.path, self.size_mib, self.owner = path, size_mib, owner
        self.filler = f"{path}/filler"

    def __enter__(self):
        os.makedirs(self.path, exist_ok=True)
        options = f"size={self.size_mib}m,mode=711" + (f",uid={self.owner.pw_uid},gid={self.owner.pw_gid}" if self.owner else "")
        if not mount(self.path, options):
            pytest.skip("only root can mount a small file system")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)

    def fill(self):
        """To the last byte, in pieces that get smaller."""
        with open(self.filler, "ab", buffering=0) as filler:
            for piece in (MIB, 4096, 1):
                block = b"x" * piece
                with contextlib.suppress(OSError):
                    while filler.write(block) == piece:
                        pass

    def free(self):
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.filler)


@contextlib.contextmanager
def server_on_volumes(data_mib=200, log_mib=100, **settings):
    """A server whose data and whose database's write-ahead log lie on volumes of their own: (server, data, log). With a
    `data_mib` of 0 the data lies on the disk, and there is no volume for it."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        data = stack.enter_context(Volume(f"{folder}/data", data_mib)) if data_mib else None
        log = stack.enter_context(Volume(f"{folder}/wal", log_mib))
        directory, user = f"{folder}/data", run_as()
        os.makedirs(directory, exist_ok=True)
        subprocess.run(["cp", "-a", f"{prepared_directory()}/.", directory], check=True)
        inside, outside = f"{directory}/postgres/pg_wal", f"{log.path}/pg_wal"
        subprocess.run(["cp", "-a", inside, outside], check=True)
        shutil.rmtree(inside)
        os.symlink(outside, inside)
        os.lchown(inside, user.pw_uid, user.pw_gid)
        server = Server(directory, log=f"{folder}/log", **settings)
        try:
            yield server, data, log
        finally:
            for volume in (data, log):
                if volume:
                    volume.free()
            server.close()

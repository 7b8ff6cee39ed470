"""s3rver: an S3-compatible store that keeps its objects in a folder, and can be ended and started again in its place."""

import json
import os
import subprocess

from harness import ROOT

BUCKET = "hourz-test"


class S3rver:
    """`settings` names it to a server; `folder` outlives a stop."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, 0, None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["node", "--openssl-legacy-provider", f"{ROOT}/tests/storage/s3rver.mjs", self.folder, BUCKET, str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = json.loads(self.process.stdout.readline())
        self.port = int(said["endpoint"].rpartition(":")[2])  # the next start takes the same one
        self.settings = {"s3_endpoint": said["endpoint"], "s3_bucket": BUCKET,
                         "s3_access_key": said["access_key"], "s3_secret_key": said["secret_key"]}

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(20)
            self.process.stdout.close()

    def keys(self):
        """Of the pictures that it keeps."""
        found = [os.path.relpath(os.path.join(at, name), f"{self.folder}/{BUCKET}")
                 for at, _, names in os.walk(f"{self.folder}/{BUCKET}/pictures") for name in names]
        return sorted(name.removesuffix("._S3rver_object") for name in found if name.endswith("._S3rver_object"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

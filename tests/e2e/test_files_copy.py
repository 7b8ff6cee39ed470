"""`hourz files copy` between the folder and an S3 store, and the settings that name the store."""

import os
import secrets
import shutil

from harness import run, run_as, scratch
from s3 import S3rver


def numbers(done):
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.replace("(", "").split() if word.isdigit()]


def make_files(directory, files):
    for key, content in files.items():
        path = f"{directory}/objects/{key}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    for path, folders, names in os.walk(directory):
        for one in [path, *(f"{path}/{name}" for name in names)]:
            shutil.chown(one, run_as().pw_uid, run_as().pw_gid)


def read_files(directory):
    found = {}
    for path, _, names in os.walk(f"{directory}/objects"):
        for name in names:
            with open(f"{path}/{name}", "rb") as file:
                found[os.path.relpath(f"{path}/{name}", f"{directory}/objects")] = file.read()
    return found


def test_files_move_to_s3_and_back():
    with scratch() as folder, S3rver(f"{folder}/s3") as store:
        data, other, secret = f"{folder}/files", f"{folder}/back", "k" + secrets.token_hex(20)
        files = {f"pictures/{n % 7}/{n}.jpg": secrets.token_bytes(n * 10) for n in range(1, 60)}
        make_files(data, files)
        os.makedirs(other)
        make_files(other, {})
        common = {"data_directory": f"{folder}/data", "secret": secret, **store.settings}
        size = sum(map(len, files.values()))
        assert numbers(run("files", "copy", "local", "s3", files_directory=data, **common)) == [59, 59, size, 0, 0]
        assert numbers(run("files", "copy", "local", "s3", files_directory=data, **common)) == [59, 0, 0, 59, 0]
        assert numbers(run("files", "copy", "s3", "local", files_directory=other, **common)) == [59, 59, size, 0, 0]
        assert read_files(other) == files
        # Whoever gives the wrong bucket hears it at once.
        wrong = run("files", "copy", "local", "s3", files_directory=data, **{**common, "s3_bucket": "elsewhere"})
        assert wrong.returncode == 1 and "NoSuchBucket" in wrong.stderr


def test_wrong_settings_are_said_at_once():
    none = run("config", storage="s3")
    assert none.returncode == 2
    assert [line.split(":")[0] for line in none.stderr.splitlines()[1:]] == [
        "HOURZ_S3_ENDPOINT", "HOURZ_S3_BUCKET", "HOURZ_S3_ACCESS_KEY", "HOURZ_S3_SECRET_KEY"
    ]
    bad = run("config", s3_endpoint="ftp://x", s3_bucket="Not A Bucket", storage="tape", s3_path_style="maybe")
    assert bad.returncode == 2 and len(bad.stderr.splitlines()) == 5, bad.stderr
    told = run("config", storage="s3", s3_endpoint="https://s3.example:9000/", s3_bucket="pictures",
               s3_access_key="id", s3_secret_key="must-not-be-shown")
    assert told.returncode == 0 and "must-not-be-shown" not in told.stdout and "********" in told.stdout
    for arguments in (["copy"], ["copy", "local", "local"], ["copy", "local", "tape"], ["move", "local", "s3"]):
        assert run("files", *arguments).returncode == 2

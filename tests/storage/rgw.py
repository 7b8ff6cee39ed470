#!/usr/bin/env python3
"""A Ceph object gateway for the tests: one monitor, one OSD in memory, one radosgw, all on loopback and free ports.

Usage: rgw.py DIR BUCKET. Prints one JSON line ({"endpoint", "access_key", "secret_key"}) once S3 requests are answered, then
waits for its standard input to end, stops what it started by pid, and removes DIR. Started by root it runs the daemons
as the user `ceph`. Unlike other S3 servers one can install, it checks signatures and hashes of bodies.
"""
import base64
import ctypes
import email.utils
import hmac
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

folder, bucket = os.path.abspath(sys.argv[1]), sys.argv[2]
user = "ceph" if os.geteuid() == 0 else None
daemons = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def run(*command):
    done = subprocess.run(command, user=user, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
    return done.stdout


def start(name, *command):
    log = open(f"{folder}/{name}.out", "wb")
    daemon = subprocess.Popen(command, user=user, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                              preexec_fn=end_with_parent)
    daemons.append((name, daemon))


def stop():
    for _, daemon in reversed(daemons):  # nothing in here is worth a clean end
        if daemon.poll() is None:
            daemon.kill()
    for _, daemon in daemons:
        daemon.wait()
    shutil.rmtree(folder, ignore_errors=True)


def tail():
    lines = []
    for name, daemon in daemons:
        with open(f"{folder}/{name}.out", errors="replace") as log:
            lines.append(f"{name} ({daemon.poll()}): {log.read()[-2000:]}")
    return "\n".join(lines)


def answers(endpoint):
    try:
        urllib.request.urlopen(endpoint, timeout=2)
    except urllib.error.HTTPError:
        return True  # it speaks, which is all that is asked
    except OSError:
        return False
    return True


def make_bucket(endpoint, access_key, secret_key):
    """With the older signature, which takes four lines."""
    date = email.utils.formatdate(usegmt=True)
    signature = base64.b64encode(hmac.digest(secret_key.encode(), f"PUT\n\n\n{date}\n/{bucket}".encode(), "sha1"))
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT", headers={
        "Date": date, "Authorization": f"AWS {access_key}:{signature.decode()}"})
    urllib.request.urlopen(request, timeout=30)


def bring_up():
    monitor, gateway, cluster = free_port(), free_port(), str(uuid.uuid4())
    endpoint = f"http://127.0.0.1:{gateway}"
    access_key, secret_key = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    for name in ("mon", "osd", "run", "rgw"):
        os.makedirs(f"{folder}/{name}")
    conf = f"{folder}/ceph.conf"
    with open(conf, "w") as out:
        out.write(f"""[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
log file =
log to stderr = true
err to stderr = true
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 1
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw enable usage log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw run sync thread = false
rgw thread pool size = 16
""")
    open(f"{folder}/keyring", "w").close()
    if user:
        owner = pwd.getpwnam(user)
        for path, folders, files in os.walk(folder):
            for one in [path, *(os.path.join(path, name) for name in files)]:
                os.chown(one, owner.pw_uid, owner.pw_gid)
    run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[v1:127.0.0.1:{monitor}]", f"{folder}/monmap")
    run("ceph-mon", "-c", conf, "-i", "a", "--mkfs", "--monmap", f"{folder}/monmap")
    start("mon", "ceph-mon", "-c", conf, "-i", "a", "-f", "--public-addr", f"v1:127.0.0.1:{monitor}")
    osd = str(uuid.uuid4())
    run("ceph", "-c", conf, "osd", "new", osd)
    run("ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
    start("osd", "ceph-osd", "-c", conf, "-i", "0", "-f")
    run("radosgw-admin", "-c", conf, "-n", "client.rgw", "user", "create", "--uid=hourz", "--display-name=hourz",
        f"--access-key={access_key}", f"--secret-key={secret_key}")
    start("rgw", "radosgw", "-c", conf, "-n", "client.rgw", "-f")
    deadline = time.monotonic() + 150
    while not answers(endpoint):
        if time.monotonic() > deadline or any(daemon.poll() is not None for _, daemon in daemons):
            raise RuntimeError("the gateway does not come up")
        time.sleep(0.1)
    make_bucket(endpoint, access_key, secret_key)
    return {"endpoint": endpoint, "access_key": access_key, "secret_key": secret_key}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.makedirs(folder, exist_ok=True)
    try:
        print(json.dumps(bring_up()), flush=True)
        sys.stdin.read()
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{error}\n{tail()}")
    finally:
        stop()


main()

"""Clients that are generated from the documents: one in TypeScript, checked by tsc and used for everything that two
people do here, and the models of one in Dart."""

import os
import re
import shutil
import subprocess

import pytest
from harness import ROOT, document, scratch

CLIENT = f"{ROOT}/tests/client"


def run(*command, cwd, timeout_s=120):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def generated():
    """A folder with the client's sources and what is generated for them."""
    run(f"{ROOT}/web/install.sh", CLIENT, cwd=ROOT)
    with scratch() as folder:
        for name in os.listdir(CLIENT):
            if name.endswith((".ts", ".json")):
                shutil.copy(f"{CLIENT}/{name}", folder)
        os.symlink(f"{CLIENT}/node_modules", f"{folder}/node_modules")
        run("node", f"{CLIENT}/generate.mjs", folder, cwd=CLIENT)
        yield folder


def test_typescript_client_goes_the_whole_way(generated, base):
    run("node", "node_modules/typescript/bin/tsc", "-p", ".", cwd=generated)
    assert run("node", "flow.js", base, cwd=generated) == "all as documented\n"


def test_dart_models(generated):
    """Every schema is a class or an enum, under its own name where Dart has none of that name; a status is no string."""
    with open(f"{generated}/hourz.dart", encoding="utf-8") as file:
        dart = file.read()
    there = set(re.findall(r"^(?:class|enum) (\w+)", dart, re.M))
    taken = {"File", "Link"}  # by dart:io: these get another name
    assert set(document()["components"]["schemas"]) - there <= taken
    gig = re.search(r"^class Gig \{(.*?)^\}", dart, re.S | re.M)[1]
    assert "GigStatus status;" in gig and "UserCard? helper;" in gig and "DateTime createdAt;" in gig

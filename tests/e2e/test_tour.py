"""What a newcomer does first: tools/tour, and the README's blocks pasted into a shell."""

import json
import os
import re
import subprocess

from harness import ROOT


def test_tour_runs_again_and_again(base):
    for _ in range(2):
        done = subprocess.run([f"{ROOT}/tools/tour", "--url", base], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "all as expected" in done.stdout


def test_tour_says_when_there_is_no_server():
    done = subprocess.run([f"{ROOT}/tools/tour", "--url", "http://127.0.0.1:9"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "is the server running" in done.stderr


def test_what_the_tour_prints_can_be_pasted(base):
    """The lines after each $ alone, in a shell of their own, give the same answers."""
    printed = subprocess.run([f"{ROOT}/tools/tour", "--url", base], capture_output=True, text=True, timeout=60).stdout
    lines = [line[2:] for line in printed.splitlines() if line.startswith("$ ")]
    reads = [line for line in lines if re.match(r"\w+='|curl -s \S+/gigs/\$gig/events ", line)]
    pasted = subprocess.run(["bash", "-eu"], input="\n".join(reads), capture_output=True, text=True, timeout=60)
    assert json.loads(pasted.stdout)["events"][-1]["action"] == "COMPLETE", pasted


def readme_blocks():
    with open(f"{ROOT}/README.md", encoding="utf-8") as readme:
        section = re.search(r"^## The tour\n(.*?)^## ", readme.read(), re.S | re.M)[1]
    return re.findall(r"```sh\n(.*?)```", section, re.S)


def paste_readme(base):
    """The whole tour of the README in one shell, word by word but for the server's address, and what it says of each answer."""
    script = "".join(readme_blocks())
    assert "http://127.0.0.1:8000/api" in script
    script = script.replace("http://127.0.0.1:8000", base)
    environment = {"PATH": os.environ["PATH"]}
    pasted = subprocess.run(["bash"], input=script, capture_output=True, text=True, timeout=60, env=environment)
    assert pasted.returncode == 0 and not pasted.stderr, pasted
    said, answers = [], []
    for line in pasted.stdout.splitlines():
        if line.startswith("{"):
            answers.append(json.loads(line))
        else:
            said.append(line)
    gig, thumbnail = said
    (seeker, helper, placed, free, nearby, accepted, held, started, done, released, earned, history, of_helper, of_seeker,
     reputation, late, own, back, wrong, text) = answers
    assert seeker["name"] == "seeker" and helper["name"] == "helper"
    assert placed["has_location"] and free["is_available"]
    assert thumbnail == "200 image/png" and len(accepted["image_urls"]) == 1
    assert text["status"] == 415 and text["code"] == "unsupported_media_type"
    assert nearby["gigs"][0]["id"] == gig and 0.4 < nearby["gigs"][0]["distance_km"] < 1.2
    assert [each["status"] for each in (accepted, started, done)] == ["ACCEPTED", "IN_PROGRESS", "COMPLETED"]
    assert (held["balance"], held["held"], earned["balance"], released["status"]) == (0, 350, 332.5, "RELEASED")
    assert [each["id"] for each in history["transactions"]] == [released["id"]]
    assert (of_helper["rating"], of_seeker["rating"], reputation["distribution"]["4"]) == (4, 5, 1)
    assert late["status"] == 409 and own["code"] == "own_gig" and back["code"] == "invalid_transition", answers[-5:]
    assert {fault["field"] for fault in wrong["errors"]} == {"title", "budget", "latitude", "longitude"}


def test_readme_pasted(base):
    paste_readme(base)

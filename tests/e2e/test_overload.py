"""R07: three times what the server can do. It does as much as ever, refuses the rest at once, and is itself again after.

The load is h2load's: at first as fast as answers come (the capacity), then at three times that rate from so many
connections that slow answers do not slow it. Its log has the time of every single answer.
"""

import shutil
import subprocess
import time

import pytest

import harness
from harness import Client, Person, gig, quantile, scratch, slack

pytestmark = pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")


def load(server, token, target, folder, *options):
    """(status, seconds) of every answer, and how long it all took."""
    log = f"{folder}/answers-{time.monotonic_ns()}"
    began = time.monotonic()
    done = subprocess.run(
        ["h2load", "--h1", "-t", "1", "--log-file", log, "-H", f"Authorization: Bearer {token}", *options, f"{server.base}{target}"],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    took_s = time.monotonic() - began
    with open(log, encoding="ascii") as lines:
        answers = [(int(status), int(micros) / 1e6) for _, status, micros in map(str.split, lines)]
    return answers, took_s


def good(answers):
    return [seconds for status, seconds in answers if status == 200]


@pytest.mark.skipif(harness.sanitized(), reason="a sanitizer's figures say nothing of capacity")
def test_three_times_the_capacity():
    seconds = 8
    with harness.server(threads=1, max_connections=5000) as own, scratch() as folder:
        with Person(own.base) as person:
            for n in range(120):
                person.post("/api/gigs", gig(title=f"Gig {n}"), 201)
            target = "/api/gigs/search?latitude=13.7563&longitude=100.5018&radius_km=20&limit=100"
            assert len(person.get(target).json["items"]) == 100
            load(own, person.token, target, folder, "-c", "16", "-D", "2")  # warm
            answers, took_s = load(own, person.token, target, folder, "-c", "16", "-D", "4")
            assert len(good(answers)) == len(answers)
            capacity = len(answers) / 4
            connections = 1000
            rate = 3 * capacity / connections
            answers, took_s = load(own, person.token, target, folder, "-c", str(connections), "-D", str(seconds), "--rps", f"{rate:.2f}")
            accepted, refused = good(answers), [s for status, s in answers if status == 503]
            assert len(accepted) + len(refused) == len(answers)
            goodput = len(accepted) / seconds
            print(f"capacity {capacity:.0f}/s, offered {len(answers) / seconds:.0f}/s, goodput {goodput:.0f}/s "
                  f"({100 * goodput / capacity:.0f} %), p99 accepted {quantile(accepted, 0.99) * 1000:.0f} ms, "
                  f"refused {quantile(refused, 0.5) * 1000:.0f} ms median")
            assert len(answers) / seconds > 1.5 * capacity, "the load was not heavy enough"
            assert goodput > 0.8 * capacity and quantile(accepted, 0.99) < 1
            # Itself again within five seconds.
            end = time.monotonic() + 5
            while time.monotonic() < end:
                began = time.monotonic()
                if person.call("GET", target).status == 200 and time.monotonic() - began < 0.1:
                    break
            else:
                raise AssertionError("still overloaded")
            assert '"event":"overload.shed"' in own.log()
        with Client(own.base) as client:
            assert client.get("/health/ready").status == 200

"""What /metrics says: names, units and texts by Prometheus' conventions, and that the dashboard, the alerts and the
operations guide name what is there. `promtool` has its say where it is installed.
"""

import json
import re
import shutil
import subprocess
import time
from urllib.request import urlopen

import pytest

import harness
from harness import ROOT, gig, wait_for
from sockets import Socket

SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')
DERIVED = {"histogram": ("_bucket", "_sum", "_count")}
# Words of PromQL, and what a query names beside metrics.
WORDS = {"sum", "rate", "histogram_quantile", "topk", "by", "le", "time", "max", "min", "count", "without", "and", "or", "on",
         "label_values", "humanize", "avg", "unless", "increase"}


class Exposition:
    def __init__(self, text):
        self.text, self.help, self.type, self.samples = text, {}, {}, []
        for line in text.splitlines():
            if line.startswith("# "):
                kind, name, rest = line[2:].split(" ", 2)
                assert kind in ("HELP", "TYPE") and name not in getattr(self, kind.lower()), line
                getattr(self, kind.lower())[name] = rest
            elif line:
                found = SAMPLE.match(line)
                assert found, line
                labels = dict(LABEL.findall(found[2] or ""))
                assert len(labels) == len(LABEL.findall(found[2] or "")), line
                self.samples.append((found[1], labels, float(found[3])))

    def names(self):
        """As a query may have them."""
        return set(self.type) | {name + end for name, kind in self.type.items() for end in DERIVED.get(kind, ())}

    def value(self, name, **labels):
        """The sum over what has these labels."""
        found = [value for one, has, value in self.samples if one == name and labels.items() <= has.items()]
        assert found, f"no {name} {labels}"
        return sum(found)


def scrape(base):
    with urlopen(f"{base}/metrics", timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return Exposition(answer.read().decode())


@pytest.fixture(scope="module")
def seen(base, seeker, helper):
    """A server that has done a bit of everything."""
    one = seeker.post("/api/gigs", gig(), 201).json["id"]
    helper.post(f"/api/gigs/{one}/accept", None, 200)
    seeker.get("/api/gigs", latitude=13.75, longitude=100.54)
    seeker.get(f"/api/gigs/{one}")
    (room,) = seeker.get("/api/chat/rooms").json["rooms"]
    seeker.post(f"/api/chat/rooms/{room['id']}/messages", {"content": "hello"}, 201)
    with Socket(base, seeker.token) as socket:
        socket.ask("join_room", room_id=room["id"])
        wait_for(lambda: scrape(base).value("hourz_sockets_open") == 1, "the socket counts")
    return wait_for(lambda: (now := scrape(base)).value("hourz_ledger_audited_timestamp_seconds") > 0 and now, "an audit", 100)


def test_conventions(seen):
    """Names, units, HELP: https://prometheus.io/docs/practices/naming/."""
    assert len(seen.type) > 40
    for name, kind in seen.type.items():
        assert re.fullmatch(r"(hourz|process)_[a-z0-9]+(_[a-z0-9]+)*", name), name
        assert len(seen.help.get(name, "")) > 5 and seen.help[name].endswith("."), f"{name}: no HELP"
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        assert not re.search(r"_(ms|us|milliseconds|microseconds|kb|mb|minutes|hours|percent|count|sum|bucket|info_total)(_|$)", name), name
        if re.search(r"_(time|duration|age|late)(_|$)", name):
            assert "_seconds" in name, f"{name}: seconds"
        if kind == "histogram":
            assert name.endswith("_seconds"), name
    for name, labels, value in seen.samples:
        assert not {"instance", "job"} & set(labels), f"{name}: a label that Prometheus sets"
        assert value == value and value >= 0, f"{name} {labels} is {value}"
    times = [value for name, _, value in seen.samples if name.endswith("_timestamp_seconds") and value]
    assert times and all(abs(time.time() - value) < 600 for value in times)


def test_labels_are_few(seen, base, seeker):
    """Nothing from outside makes a label: thousands of paths are one endpoint."""
    before = len(seen.samples)
    for n in range(50):
        seeker.call("GET", f"/nowhere/{n}", status=404)
        seeker.call("GET", f"/api/gigs/{n:08d}-0000-0000-0000-000000000000", status=404)
    assert len(scrape(base).samples) - before < 150


def test_they_count(seen, base, seeker):
    assert seen.value("hourz_build_info", version=harness.run("version").stdout.split()[1]) == 1
    assert seen.value("hourz_http_requests_total", endpoint="gigs.create", status="201") == 1
    assert seen.value("hourz_http_request_duration_seconds_count", endpoint="gigs.create") == 1
    assert seen.value("hourz_chat_messages_total") == 1
    assert seen.value("hourz_ledger_faults") == 0
    assert seen.value("hourz_db_pool_size") == 16 and seen.value("hourz_db_connections") > 0
    assert seen.value("process_resident_memory_bytes") > 1e6 and 5 < seen.value("process_open_fds") < seen.value("process_max_fds")
    for task in ("timers", "purge", "fold_cells", "payments", "backlog"):
        assert seen.value("hourz_job_runs_total", task=task, outcome="done") > 0, task
        assert seen.value("hourz_job_runs_total", task=task, outcome="failed") == 0, task
    assert seen.value("hourz_timers_overdue") == 0
    seeker.get("/api/users/me")
    before = scrape(base)
    seeker.get("/api/users/me")
    after = scrape(base)
    for name in ("hourz_http_requests_total", "hourz_http_request_duration_seconds_count"):
        assert after.value(name, endpoint="users.me") == before.value(name, endpoint="users.me") + 1


def metrics_in(query):
    """The metrics that a query names."""
    query = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\$\w+|\"[^\"]*\"|\b(?:by|without) *\([^)]*\)", " ", query)
    return set(re.findall(r"\b[a-z_]\w*\b", query)) - WORDS


def labels_in(query):
    return set(re.findall(r"[{,] *(\w+) *=", query)) | {
        word for listed in re.findall(r"\b(?:by|without) *\(([^)]*)\)", query) for word in re.findall(r"\w+", listed)}


def queries_of_the_dashboard():
    with open(f"{ROOT}/deploy/grafana/hourz.json", encoding="utf-8") as file:
        dashboard = json.load(file)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def queries_of_the_alerts():
    with open(f"{ROOT}/deploy/prometheus/alerts.yml", encoding="utf-8") as file:
        text = file.read()
    for one in re.split(r"\n *- alert: ", text)[1:]:
        found = re.search(r"\n *expr: (?:\|\n)?((?:.|\n)*?)\n *(?:for|labels):", one)
        assert found and "severity: " in one and "summary: " in one and "description: " in one, one
        yield one.split("\n")[0], found[1]


@pytest.mark.parametrize("source", [queries_of_the_dashboard, queries_of_the_alerts])
def test_queries_name_what_is_there(seen, source):
    labels = {label for _, has, _ in seen.samples for label in has} | {"instance", "job", "le"}
    names, found = seen.names() | {"up"}, list(source())
    assert len(found) > 10
    for title, query in found:
        assert metrics_in(query) and metrics_in(query) <= names, f"{title}: {metrics_in(query) - names}"
        assert labels_in(query) <= labels, f"{title}: {labels_in(query) - labels}"


def test_the_dashboard_shows_all(seen):
    shown = {name for _, query in queries_of_the_dashboard() for name in metrics_in(query)}
    for name, kind in seen.type.items():
        assert {name, *(name + end for end in DERIVED.get(kind, ()))} & shown or name in (
            "process_start_time_seconds", "hourz_ledger_audit_duration_seconds", "hourz_ledger_audited_timestamp_seconds",
            "hourz_job_last_success_timestamp_seconds", "hourz_alert_match_duration_seconds", "hourz_feed_events_total"), name


def test_the_guide_lists_all(seen):
    with open(f"{ROOT}/docs/operations.md", encoding="utf-8") as file:
        guide = file.read()
    for name in seen.type:
        assert f"`{name}`" in guide, f"docs/operations.md does not list {name}"
    for name in re.findall(r"`((?:hourz|process)_[a-z_]+(?:_total|_seconds|_bytes))`", guide):
        assert name in seen.type, f"docs/operations.md lists {name}, which is not there"


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_agrees(seen):
    done = subprocess.run(["promtool", "check", "metrics"], input=seen.text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    for file in ("alerts.yml", "prometheus.yml"):
        what = "config" if file == "prometheus.yml" else "rules"
        done = subprocess.run(["promtool", "check", what, f"{ROOT}/deploy/prometheus/{file}"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

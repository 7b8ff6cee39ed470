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
from harness import ROOT, Client, Person, gig, wait_for
from psql import Psql
from sockets import Meeting, Socket
from test_mail import fresh, register, smtp

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
    for task in ("timers", "purge", "fold_cells", "payments", "mail", "backlog", "waiting", "escrow"):
        assert seen.value("hourz_job_runs_total", task=task, outcome="done") > 0, task
        assert seen.value("hourz_job_runs_total", task=task, outcome="failed") == 0, task
    assert seen.value("hourz_timers_overdue") == 0
    seeker.get("/api/users/me")
    before = scrape(base)
    seeker.get("/api/users/me")
    after = scrape(base)
    for name in ("hourz_http_requests_total", "hourz_http_request_duration_seconds_count"):
        assert after.value(name, endpoint="users.me") == before.value(name, endpoint="users.me") + 1


def test_what_waits_for_others():
    """Mails without a mail server, charges and repayments without a provider's answer, disputes without a judge, a payment
    without its timer: each is counted, and how long the oldest waits; and no longer when it has what it waited for.
    """
    port = harness.free_port()
    with harness.server(smtp_url=f"smtp://127.0.0.1:{port}", public_url="https://app.hourz.example") as own:
        def waits():
            now = scrape(own.base)
            found = {name: now.value(f"hourz_{name}") for name in (
                "mails_waiting", "mails_expired", "payments_held", "payments_disputed", "payments_overdue")}
            ages = {name: now.value(f"hourz_{name}") for name in ("mails_age_seconds", "payments_dispute_age_seconds", "payments_late_seconds")}
            for kind in ("charge", "repayment"):
                found[kind] = now.value("hourz_payments_unsettled", kind=kind)
                ages[kind] = now.value("hourz_payments_unsettled_age_seconds", kind=kind)
            mails = {outcome: now.value("hourz_mails_total", outcome=outcome) for outcome in ("sent", "failed", "refused")}
            return found, ages, mails

        def look_again():
            """A server that has just started looks at once."""
            assert own.stop() == 0
            own.start()
            began = time.time()
            jobs = ("waiting", "escrow")
            wait_for(lambda: all(scrape(own.base).value("hourz_job_last_success_timestamp_seconds", task=job) > began - 1 for job in jobs),
                     "a look", 60)
            return waits()

        found, ages, _ = look_again()
        assert not any(found.values()) and not any(ages.values()), (found, ages)
        with Person(own.base, "Mali") as seeker, Person(own.base, "Somchai") as helper:
            gigs = [Meeting(seeker, helper).gig for _ in range(4)]
            paid = [seeker.post("/api/transactions/escrow", {"gig_id": one}, 201).json["id"] for one in gigs[:3]]
            seeker.put(f"/api/transactions/{paid[1]}/dispute", {"reason": "no"})
            for step in ("IN_PROGRESS", "COMPLETED"):
                helper.put(f"/api/gigs/{gigs[2]}/status", {"status": step})
            with Psql(own.database()) as psql:
                # As the provider, and years, would have made it.
                for statement in (
                    "ALTER TABLE transactions DISABLE TRIGGER USER",
                    "INSERT INTO transactions (id, gig_id, payer_id, payee_id, amount, fee_bps, service_fee, net_amount, payment_method,"
                    " reference, request_key, created_at, settle_at) SELECT gen_random_uuid(), id, seeker_id, helper_id, 100, 0, 0, 100,"
                    f" 'mock_card', 'HZ-1', 'key 1', now() - interval '1000 s', now() + interval '1 h' FROM gigs WHERE id = '{gigs[3]}'",
                    "INSERT INTO transactions (id, gig_id, payer_id, payee_id, amount, fee_bps, service_fee, net_amount, payment_method,"
                    " reference, request_key, status, refunded_at, pay_back, settle_at) SELECT gen_random_uuid(), id, seeker_id, helper_id,"
                    " 100, 0, 0, 100, 'mock_card', 'HZ-2', 'key 2', 'REFUNDED', now() - interval '2000 s', 100, now() + interval '1 h'"
                    f" FROM gigs WHERE id = '{gigs[3]}'",
                    f"UPDATE transactions SET disputed_at = now() - interval '3000 s' WHERE id = '{paid[1]}'",
                    f"UPDATE transactions SET created_at = now() - interval '100 h' WHERE id = '{paid[2]}'",
                    f"UPDATE gigs SET completed_at = now() - interval '72 h 4000 s' WHERE id = '{gigs[2]}'",
                    f"DELETE FROM timers WHERE subject_id = '{paid[2]}'",
                    "ALTER TABLE transactions ENABLE TRIGGER USER",
                    "UPDATE mails SET created_at = now() - interval '5000 s'",
                ):
                    assert not psql.sql(statement), statement
        wait_for(lambda: waits()[2]["failed"] > 1, "mails that were tried")
        found, ages, mails = look_again()
        assert found == {"mails_waiting": 2, "mails_expired": 0, "payments_held": 2, "payments_disputed": 1, "payments_overdue": 1,
                         "charge": 1, "repayment": 1}
        for name, least in (("charge", 1000), ("repayment", 2000), ("payments_dispute_age_seconds", 3000),
                            ("payments_late_seconds", 4000), ("mails_age_seconds", 5000)):
            assert least <= ages[name] < least + 300, (name, ages)
        # What they waited for comes.
        lost = fresh()
        with smtp(port) as mailbox, Client(own.base) as client:
            with Psql(own.database()) as psql:
                assert not psql.sql("UPDATE transactions SET settle_at = now() WHERE settle_at IS NOT NULL")
                assert not psql.sql("UPDATE mails SET due_at = now()")
            mailbox.refuse[lost] = "550 no such user"
            register(client, lost)
            wait_for(lambda: (now := waits())[0]["mails_waiting"] == 0 and now[2]["sent"] == 2 and now[2]["refused"] == 1, "mails", 60)
        found, ages, mails = waits()
        assert ages["mails_age_seconds"] == 0 and mails["failed"] >= 2
        wait_for(lambda: waits()[0]["charge"] + waits()[0]["repayment"] == 0, "the provider", 60)
        found, ages, _ = look_again()
        assert found["payments_held"] == 3 and found["charge"] + found["repayment"] + ages["charge"] + ages["repayment"] == 0


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


# By the name of the alert: what it is told of, what it says after a day or never.
ALARMS = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'hourz_mails_waiting{{job="hourz",instance="a"}}', values: '{mails}x1500'}}
      - {{series: 'hourz_mails_waiting{{job="hourz",instance="b"}}', values: '{mails}x1500'}}
      - {{series: 'hourz_mails_age_seconds{{job="hourz",instance="a"}}', values: '{mail_age}x1500'}}
      - {{series: 'hourz_mails_total{{job="hourz",instance="a",outcome="sent"}}', values: '{sent}x1500'}}
      - {{series: 'hourz_mails_total{{job="hourz",instance="a",outcome="refused"}}', values: '{refused}x1500'}}
      - {{series: 'hourz_mails_expired{{job="hourz",instance="a"}}', values: '{expired}x1500'}}
      - {{series: 'hourz_payments_unsettled_age_seconds{{job="hourz",instance="a",kind="charge"}}', values: '{charge}x1500'}}
      - {{series: 'hourz_payments_unsettled_age_seconds{{job="hourz",instance="a",kind="repayment"}}', values: '{repayment}x1500'}}
      - {{series: 'hourz_payments_overdue{{job="hourz",instance="a"}}', values: '{overdue}x1500'}}
      - {{series: 'hourz_payments_dispute_age_seconds{{job="hourz",instance="a"}}', values: '{dispute}x1500'}}
      - {{series: 'hourz_timers_total{{job="hourz",instance="a",kind="payment.release",outcome="failed"}}', values: '{timers}x1500'}}
    promql_expr_test:
      - expr: count by (alertname) (ALERTS{{alertstate="firing"}})
        eval_time: 20h
        exp_samples: [{firing}]
"""
QUIET = {"mails": "2+0", "mail_age": "30+0", "sent": "0+1", "refused": "0+0", "expired": "0+0", "charge": "40+0", "repayment": "80+0",
         "overdue": "0+0", "dispute": "3600+0", "timers": "3+0"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("trouble, alerts", [
    ({}, []),
    ({"mails": "5+1", "mail_age": "0+60", "sent": "9+0"}, ["HourzMailStuck", "HourzMailWaits"]),
    ({"mails": "2+0", "mail_age": "0+60"}, ["HourzMailWaits"]),
    ({"mails": "50+0"}, []),
    ({"refused": "0+1"}, ["HourzMailLost"]),
    ({"expired": "11+0"}, ["HourzMailLost"]),
    ({"charge": "0+60"}, ["HourzChargeUnsettled"]),
    ({"repayment": "0+60"}, []),
    ({"repayment": "20000+60"}, ["HourzRepaymentUnsettled"]),
    ({"overdue": "1+0"}, ["HourzPaymentsOverdue"]),
    ({"dispute": "150000+60"}, ["HourzDisputeWaits"]),
    ({"timers": "0+0.05"}, ["HourzTimersFail"]),
])
def test_what_waits_too_long_is_an_alert(tmp_path, trouble, alerts):
    firing = ", ".join(f"{{labels: '{{alertname=\"{name}\"}}', value: 1}}" for name in alerts)
    file = tmp_path / "alarms.yml"
    file.write_text(ALARMS.format(rules=f"{ROOT}/deploy/prometheus/alerts.yml", firing=firing, **{**QUIET, **trouble}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr

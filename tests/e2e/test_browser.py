"""Pages in a real browser (Chromium, headless): what a listed origin may do, and what others may not. C01 to C04, W03.

A page comes from a small server of the test, runs its cases against Hourz, which is another origin, and posts what it
saw back to where it came from.
"""

import contextlib
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from urllib.parse import urlencode

import pytest

import harness
from harness import Person

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")

PAGE = """<!doctype html><meta charset="utf-8"><title>cases</title><script>
const at = new URLSearchParams(location.search), api = at.get("api"), token = at.get("token");
const seen = {};
async function ask(name, method, path, options = {}) {
  try {
    const headers = {...(options.bare ? {} : {"Authorization": "Bearer " + (options.token || token)})};
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(api + path, {method, headers: {...headers, ...options.headers}, credentials: "include",
      body: options.body === undefined ? undefined : JSON.stringify(options.body)});
    const text = await answer.text();
    const fields = {};
    answer.headers.forEach((value, field) => { fields[field] = value; });
    seen[name] = {status: answer.status, fields, json: text.startsWith("{") ? JSON.parse(text) : null};
  } catch (error) {
    seen[name] = {blocked: error.name};
  }
  return seen[name];
}
function open_socket(name) {
  return new Promise(done => {
    const socket = new WebSocket(api.replace("http", "ws") + "/ws", ["hourz.v1", "bearer." + token]);
    socket.onmessage = message => { seen[name] = {protocol: socket.protocol, first: JSON.parse(message.data)}; socket.close(); done(); };
    socket.onclose = ended => { seen[name] = seen[name] || {blocked: ended.code}; done(); };
  });
}
function ask_from_nowhere(name) {
  return new Promise(done => {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";  // its origin is "null"
    frame.srcdoc = `<script>fetch("${api}/health/live").then(a => parent.postMessage({status: a.status}, "*"),
      error => parent.postMessage({blocked: error.name}, "*"))<` + "/script>";
    addEventListener("message", message => { seen[name] = message.data; done(); }, {once: true});
    document.documentElement.append(frame);
  });
}
(async () => {
  await ask("simple", "GET", "/health/live", {bare: true});
  const me = await ask("me", "GET", "/api/users/me");
  await ask("known", "GET", "/api/users/me", {headers: {"If-None-Match": me.fields ? me.fields["etag"] || "" : '"x"'}});
  await ask("change", "PUT", "/api/users/me", {body: {bio: "from a page"}});
  const made = await ask("made", "POST", "/api/gigs", {body: JSON.parse(at.get("gig")), headers: {"Idempotency-Key": "page-" + Math.random()}});
  await ask("deleted", "DELETE", made.json ? "/api/gigs/" + made.json.id : "/api/gigs/" + at.get("victim"));
  await ask("bad_token", "GET", "/api/users/me", {token: "made-up"});
  await ask("nothing", "GET", "/api/nothing");
  await ask("faults", "POST", "/api/gigs", {body: {title: "x"}});
  await ask("too_large", "POST", "/api/gigs", {body: {title: "x".repeat(70000)}});
  await ask("long_target", "GET", "/api/gigs?q=" + "x".repeat(9000), {bare: true});
  await ask("made_up_field", "GET", "/health/live", {bare: true, headers: {"X-Made-Up": "1"}});
  await ask("made_up_method", "TRUNCATE", "/api/users/me");
  await open_socket("socket");
  await ask_from_nowhere("nowhere");
  await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"""


class Pages:
    """The test's own origin: the page, and where it tells what it saw."""

    def __init__(self):
        told = self.told = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                page = self.path.startswith("/page")
                body = PAGE.encode() if page else b""
                self.send_response(200 if page else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def pages():
    made = Pages()
    try:
        yield made
    finally:
        made.close()


def browse(url, told):
    """Opens the page in a browser of its own, which ends once the page has told what it saw."""
    with harness.scratch() as folder:
        browser = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
             f"--user-data-dir={folder}/profile", "--window-size=800,600", url],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env={**os.environ, "HOME": folder},
            start_new_session=True)
        try:
            return told.get(timeout=harness.slack(90))
        finally:
            family = harness.family_of(browser.pid)
            harness.signal_all(family, signal.SIGKILL)
            browser.wait(20)
            harness.wait_for(lambda: not any(harness.is_running(pid) for pid in family), "the browser is gone")


@pytest.fixture(scope="module")
def seen():
    """What a page of a listed origin saw, and one of another."""
    with pages() as listed, pages() as foreign:
        with harness.server(cors_origins=f"https://app.hourz.test,{listed.origin}", rate_limit="on") as own:
            with Person(own.base) as person:
                victim = person.post("/api/gigs", harness.gig(), 201).json["id"]
                query = urlencode({"api": own.base, "token": person.token, "gig": json.dumps(harness.gig()), "victim": victim})
                sights = {page: browse(f"{page.origin}/page?{query}", page.told) for page in (listed, foreign)}
                assert person.get(f"/api/gigs/{victim}").json["status"] == "PENDING"  # what was blocked was not done
                yield sights[listed], sights[foreign], person.get("/api/users/me").json


def test_a_listed_page_reads_answers_and_fields(seen):
    page, _, _ = seen
    assert page["simple"]["status"] == 200 and page["simple"]["json"] == {"status": "ok"}
    assert page["me"]["status"] == 200 and page["me"]["json"]["email"]
    fields = page["me"]["fields"]
    assert fields["ratelimit"].startswith('"standard";r=') and fields["ratelimit-policy"] == '"standard";q=300;w=60'
    assert fields["x-request-id"] and fields["etag"]
    # The browser itself answers from its cache after our 304.
    assert page["known"]["status"] in (200, 304)


def test_a_listed_page_writes_after_a_preflight(seen):
    page, _, me = seen
    assert page["change"]["status"] == 200 and me["bio"] == "from a page"
    assert page["made"]["status"] == 201 and page["made"]["fields"]["location"] == "/api/gigs/" + page["made"]["json"]["id"]
    assert page["deleted"]["status"] == 204


def test_a_listed_page_reads_errors(seen):
    page, _, _ = seen
    for name, status, code in [("bad_token", 401, "token_invalid"), ("nothing", 404, "not_found"), ("faults", 422, "validation_failed"),
                               ("too_large", 413, "body_too_large"), ("long_target", 414, "target_too_long")]:
        assert page[name].get("status") == status and page[name]["json"]["code"] == code, (name, page[name])
        assert page[name]["fields"]["x-request-id"] == page[name]["json"]["request_id"]
    assert page["bad_token"]["fields"]["www-authenticate"].startswith("Bearer")


def test_what_is_not_granted_is_not_sent(seen):
    page, _, _ = seen
    for name in ("made_up_field", "made_up_method", "nowhere"):
        assert page[name] == {"blocked": "TypeError"}, name


def test_a_foreign_page_reads_nothing(seen):
    _, page, _ = seen
    assert set(page.pop("socket")) == {"blocked"}
    assert len(page) == 14 and set(map(json.dumps, page.values())) == {'{"blocked": "TypeError"}'}


def test_a_listed_page_opens_a_socket(seen):
    page, _, _ = seen
    assert page["socket"]["protocol"] == "hourz.v1" and page["socket"]["first"]["type"] == "ready"

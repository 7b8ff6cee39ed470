"""What the guides show is run as it stands there: the shell of docs/*.md on a server with demo data or in a folder of its
own, the client of docs/websocket.md under Node on a server that dies underneath it."""

import json
import os
import re
import shutil
import subprocess
import urllib.request

import harness
import pytest
from chatters import make_rooms, two_people
from harness import ROOT, slack, wait_for
from s3 import S3rver
from test_tour import paste_readme, readme_blocks

CLIENT = f"{ROOT}/tests/client"
# Blocks of shell that no test runs, by how they begin, and why not.
NOT_RUN = {
    "./dev up": "installs Debian packages and compiles",
    "npm install openapi-fetch": "takes what npm has today; e2e.typescript_client does it with what is pinned",
    "hourz backup DIR": "no commands but their forms; those are run under 'From start to restore'",
}


@pytest.fixture(scope="module")
def demo():
    """A server with the accounts and the Bangkok of `./dev up`, somewhat smaller."""
    with harness.server() as running:
        done = harness.run("demo", "--users", "200", "--gigs", "2000", data_directory=running.directory)
        assert done.returncode == 0, done.stderr
        yield running


def blocks(page):
    with open(f"{ROOT}/docs/{page}", encoding="utf-8") as file:
        return re.findall(r"^```sh\n(.*?)^```", file.read(), re.S | re.M)


def steps(script):
    """(commands, what their output must have) in order: one step ends with each line that has a `# …` behind it."""
    commands = []
    for line in script.splitlines():
        command, _, promised = line.partition("  # ")
        commands.append(command)
        if promised and not line.startswith((" ", "#")):
            yield "\n".join(commands), promised.split()
            commands = []
    yield "\n".join(commands), []


def check_page(demo, page, least):
    script = "".join(blocks(page)).replace("127.0.0.1:8000", f"127.0.0.1:{demo.port}")
    script = script.replace("build/release/src/hourz", harness.binary())
    environment = {"PATH": os.environ["PATH"], "HOURZ_DATA_DIRECTORY": demo.directory}
    check_examples(script, least, environment=environment)


# The same operations under their other names. PATCH is PUT everywhere.
OTHER_NAMES = {"auth.me", "auth.logout_by_delete", "users.profile", "gigs.search", "system.health"}


def test_the_api_guide_shows_every_operation_at_work(demo):
    """The page's examples do what they say, and with them every operation of the document has been answered well once."""
    check_page(demo, "api.md", 150)
    with urllib.request.urlopen(f"{demo.base}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    shown = set(re.findall(r'^hourz_http_requests_total\{endpoint="([a-z_.]+)",status="2\d\d"\}', metrics, re.M))
    operations = {operation["operationId"] for methods in harness.document()["paths"].values()
                  for operation in methods.values() if "operationId" in operation}
    operations = {name for name in operations if not name.endswith("_patch")}
    assert OTHER_NAMES < operations and len(operations) > 80
    assert operations - shown - OTHER_NAMES == set()


@pytest.mark.parametrize("page, least", [("quick-start.md", 3), ("websocket.md", 9)])
def test_examples_do_what_they_say(demo, page, least):
    check_page(demo, page, least)


def test_the_tour_of_the_readme_goes_among_demo_data_too(demo):
    paste_readme(demo.base)


@pytest.fixture
def shell():
    """A folder that anybody may write to, and `hourz` on the path: (folder, environment)."""
    with harness.scratch() as folder:
        os.mkdir(f"{folder}/bin")
        os.symlink(harness.binary(), f"{folder}/bin/hourz")
        os.mkdir(f"{folder}/here")
        os.chmod(f"{folder}/here", 0o777)
        yield f"{folder}/here", {"PATH": f"{folder}/bin:{os.environ['PATH']}"}


def test_operations_from_start_to_restore(shell):
    script = next(block for block in blocks("operations.md") if "hourz serve" in block)
    port = str(harness.free_port())
    # Whatever goes wrong, the server ends with the shell.
    script = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n" + script.replace("8000", port)
    check_examples(script, 13, *shell)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
def test_operations_copy_files(shell):
    folder, environment = shell
    with S3rver(f"{folder}/s3") as store:
        settings = {**store.settings, "data_directory": f"{folder}/data", "files_directory": f"{folder}/files", "secret": "k" * 20 + "0123456789abcdef"}
        for name in ("one", "two"):
            os.makedirs(f"{folder}/files/objects/pictures/aa", exist_ok=True)
            with open(f"{folder}/files/objects/pictures/aa/{name}", "w", encoding="ascii") as file:
                file.write(name)
        for at, _, names in os.walk(f"{folder}/files"):
            for one in (at, *(f"{at}/{name}" for name in names)):
                shutil.chown(one, harness.run_as().pw_uid, harness.run_as().pw_gid)
        script = next(block for block in blocks("operations.md") if "hourz files copy" in block)
        check_examples(script, 3, folder, environment | {f"HOURZ_{name.upper()}": value for name, value in settings.items()})


@pytest.mark.parametrize("page", ["../README.md", *(name for name in sorted(os.listdir(f"{ROOT}/docs")) if name.endswith(".md"))])
def test_what_is_not_run_says_so(page):
    """Every block of `text` stands in NOT_RUN; those of `sh` are where a test looks for them."""
    with open(f"{ROOT}/docs/{page}", encoding="utf-8") as file:
        found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```", file.read(), re.S | re.M)
    unknown = [body for indent, kind, body in found
               if kind in ("text", "bash", "shell", "console") and not body.strip().startswith(tuple(NOT_RUN))]
    assert not unknown, unknown
    shell = [(indent, body) for indent, kind, body in found if kind == "sh"]
    assert not any(indent for indent, _ in shell), "an indented block is not run"
    if page == "../README.md":
        assert [body for _, body in shell] == readme_blocks(), "e2e.tour runs those of the tour alone"
    elif page == "operations.md":
        assert all("hourz serve" in body or "hourz files copy" in body for _, body in shell) and len(shell) == 2
    elif page not in ("quick-start.md", "api.md", "websocket.md"):
        assert not shell, "nothing runs the blocks of this page"


def check_examples(script, least, folder=ROOT, environment=None):
    parts = [(commands, promised) for commands, promised in steps(script) if commands.strip()]
    assert sum(bool(promised) for _, promised in parts) >= least
    mark = "\n----8<----\n"
    lines = "".join(f"{commands}\nprintf '%s' '{mark}'\n" for commands, _ in parts)
    environment = environment or {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash"], input=lines, capture_output=True, text=True, timeout=slack(120), env=environment, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    printed = done.stdout.split(mark)
    assert len(printed) == len(parts) + 1
    wrong = []
    for (commands, promised), output in zip(parts, printed):
        missing = [word for word in promised if word.lower() not in output.lower()]
        if missing or (not promised and re.search(r'"status":[45]\d\d', output)):
            wrong.append(f"{commands.strip()}\nprinted …{output[-600:].strip()}\nwithout {missing}")
    assert not wrong, "\n\n".join(wrong)


@pytest.fixture
def reconnecting(server):
    """The client of the guide, both sides of one room."""
    subprocess.run([f"{ROOT}/web/install.sh", CLIENT], check=True)
    seeker, helper = two_people(server.base)
    (room,) = make_rooms(seeker, helper)
    node = subprocess.Popen(
        ["node", f"{CLIENT}/reconnect.mjs", server.base, room, seeker.token, helper.token],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield node, seeker, room
    finally:
        node.kill()
        node.communicate()


def last_seq(server, room):
    return int(server.database().sql(f"SELECT max(seq) FROM chat_messages WHERE room_id = '{room}'")[0][0])


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
def test_the_client_of_the_guide_loses_nothing(server, reconnecting):
    node, seeker, room = reconnecting
    for stop in (server.stop, server.kill, server.stop, server.kill):
        before = last_seq(server, room)
        wait_for(lambda: last_seq(server, room) > before + 10, "they talk", slack(30), 0.05)
        stop()
        server.start()
    before = last_seq(server, room)
    wait_for(lambda: last_seq(server, room) > before + 10, "they talk again", slack(30), 0.05)
    said, errors = node.communicate("stop\n", timeout=slack(60))
    assert node.returncode == 0 and not errors, errors
    people = json.loads(said)
    stored, after = [], 0
    while True:
        page = seeker.get(f"/api/chat/rooms/{room}/messages", after_seq=after, limit=100).json
        stored += [[message["seq"], message["content"]] for message in page["messages"]]
        after = stored[-1][0]
        if not page["has_more"]:
            break
    for number, person in enumerate(people):
        assert not person["refused"] and person["opened"] > 1
        assert sorted(person["acknowledged"]) == sorted(person["sent"]), "each acknowledged once"
        assert person["seen"] == stored, "each seen once, in order"
        mine = [content for _, content in stored if content.startswith(f"{number} ")]
        assert sorted(mine) == sorted(f"{number} {n}" for n in range(len(person["sent"])))


def test_the_operations_page_has_every_event_of_the_log():
    with open(f"{ROOT}/docs/operations.md", encoding="utf-8") as file:
        page = file.read()
    table = page[page.index("| event | when |"):page.index("\n## Metrics")]
    told = {name for row in table.splitlines() for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", row.split(" | ")[0])}
    written = set()
    for folder, _, names in os.walk(f"{ROOT}/src"):
        for name in names:
            if name.endswith((".cpp", ".hpp")) and not name.endswith("_test.cpp"):
                with open(f"{folder}/{name}", encoding="utf-8") as file:
                    source = file.read()
                # Up to the parenthesis that closes the call: where it is chosen between several, all of them.
                for call in re.findall(r"log::Line(?: \w+)?\(((?:[^()]|\([^()]*\))*)\)", source):
                    written |= set(re.findall(r'"([a-z_]+(?:\.[a-z_]+)?)"', call))
                written |= set(re.findall(r'Level::\w+, "([a-z_.]+)"', source))
    assert len(written) > 40
    assert told == written, told ^ written


def suite_names():
    """As ctest has them."""
    suites = {f"e2e.{name[5:-3]}" for name in os.listdir(f"{ROOT}/tests/e2e") if name.startswith("test_")}
    with open(f"{ROOT}/tests/CMakeLists.txt", encoding="utf-8") as file:
        return suites | set(re.findall(r"^(?:hourz_test\(|add_test\(NAME )([a-z_0-9.]+)", file.read(), re.M))


def test_the_testing_page_names_every_suite():
    with open(f"{ROOT}/docs/testing.md", encoding="utf-8") as file:
        page = file.read()
    told = set()
    for row in re.findall(r"^\| `.*", page[page.index("| suite | what it holds |"):page.index("| variable |")], re.M):
        prefix = "" if re.match(r"\| `(unit|contract|rooms|db|realtime|storage|cluster|migrations|demo)\b", row) else "e2e."
        told |= {prefix + name for name in re.findall(r"`([a-z_0-9.…]+)`", row.split(" | ")[0])}
    kept = {name for name in suite_names() if not name.startswith(("rooms.", "statements.", "exchanges.", "storage.tools"))}
    assert told - {"rooms.…"} == kept - {"prepare", "clear"}


def test_the_security_page_names_tests_that_are_there():
    """What holds a promise is a suite, a test or a fuzz target; the last column of each table names it."""
    with open(f"{ROOT}/docs/security.md", encoding="utf-8") as file:
        rows = [line for line in file if line.startswith("| ") and "---" not in line and "| held by" not in line]
    sources = ""
    for folder, _, names in [*os.walk(f"{ROOT}/src"), *os.walk(f"{ROOT}/tests")]:
        for name in names:
            if name.endswith("_test.cpp"):
                with open(f"{folder}/{name}", encoding="utf-8") as file:
                    sources += file.read()
    single = {f"{suite}.{name}" for suite, name in re.findall(r"^TEST(?:_F|_P)?\((\w+), (\w+)\)", sources, re.M)}
    suites = suite_names() - {"unit", "rooms", "contract"}  # which hold so much that to name them says nothing
    targets = set(os.listdir(f"{ROOT}/fuzz/corpus"))
    assert len(rows) > 20
    for row in rows:
        held = row.rstrip().rstrip("|").rsplit(" | ", 1)[1]
        names = re.findall(r"`([^`]+)`", held)
        assert names or held.strip() in {"–", "-"}, f"nothing holds: {row}"
        unknown = [name for name in names if name not in single | suites | targets and not name.startswith("./dev ")]
        assert not unknown, f"{unknown} are no tests: {row}"


def pages():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [page for page in listed if os.path.exists(f"{ROOT}/{page}")]


def anchors(path):
    """Of the headings, as GitHub makes them."""
    with open(path, encoding="utf-8") as file:
        headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", file.read(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_settings_paths_and_commands_in_the_documents_are_there():
    with open(f"{ROOT}/docs/operations.md", encoding="utf-8") as file:
        settings = set(re.findall(r"^\| `(HOURZ_[A-Z0-9_]+)`", file.read(), re.M)) | {"HOURZ_CONFIG"}
    told = subprocess.run([f"{ROOT}/dev", "--help"], capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"^  ([a-z]+)", told, re.M))
    assert len(settings) > 50 and len(commands) > 10
    unknown = []
    for page in ("README.md", *(f"docs/{name}" for name in sorted(os.listdir(f"{ROOT}/docs")) if name.endswith(".md"))):
        with open(f"{ROOT}/{page}", encoding="utf-8") as file:
            text = file.read()
        named = set(re.findall(r"HOURZ_[A-Z0-9_]*[A-Z0-9]", text))
        unknown += [(page, name) for name in named - settings if not name.startswith("HOURZ_TEST_")]
        unknown += [(page, f"./dev {name}") for name in set(re.findall(r"\./dev ([a-z]+)", text)) - commands]
        paths = set(re.findall(r"/api/[\w{}/$-]+", text)) | {f"/api/{path}" for path in re.findall(r"\$api/([a-z][\w/$-]+)", text)}
        unknown += [(page, path) for path in paths
                    if not any(pattern.fullmatch(path.rstrip("/")) for pattern, _ in harness.templates())]
    assert not unknown


@pytest.mark.skipif(not os.path.exists(f"{ROOT}/.git"), reason="not a checkout")
def test_links_between_documents_lead_somewhere():
    broken = []
    for page in pages():
        with open(f"{ROOT}/{page}", encoding="utf-8") as file:
            text = re.sub(r"^```.*?^```", "", file.read(), flags=re.S | re.M)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            path = os.path.normpath(f"{ROOT}/{os.path.dirname(page)}/{path}") if path else f"{ROOT}/{page}"
            if not os.path.exists(path) or (anchor and path.endswith(".md") and anchor not in anchors(path)):
                broken.append(f"{page}: {target}")
    assert not broken

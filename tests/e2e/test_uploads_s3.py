"""Pictures in an S3-compatible store: as from a folder, while the store is gone, and after a move from the one to the
other."""

import hashlib
import os
import random

import pytest
from harness import Client, Person, gig, run, scratch, server as new_server, slack, wait_for
from pictures import png, upload
from s3 import S3rver


@pytest.fixture(scope="module")
def store():
    with scratch() as folder, S3rver(f"{folder}/s3") as running:
        yield running


@pytest.fixture(scope="module")
def server(store):
    with new_server(storage="s3", **store.settings) as running:
        yield running


def keys_of(made):
    key = f"pictures/{made['id'][34:]}/{made['id']}"
    return [key, f"{key}.thumb"]


def incoming(server):
    return [name for name in os.listdir(f"{server.directory}/files/incoming") if name != "lock"]


def rows(server):
    return int(server.database().sql("SELECT count(*) FROM uploads")[0][0])


def is_ready(server):
    with Client(server.base) as anyone:
        return anyone.call("GET", "/health/ready", status={200, 503}).status == 200


def test_a_picture_goes_through_the_bucket(server, store):
    """In memory and piece by piece: the bytes, their ETag and their parts."""
    seeker = Person(server.base)
    for side in (60, 900):  # the second is too large to be held in memory
        made = upload(seeker, png(side, side, random.Random(side))).json
        assert set(keys_of(made)) <= set(store.keys())
        assert not os.path.exists(f"{server.directory}/files/objects")
        wait_for(lambda: not incoming(server), "nothing of it stays here")
        stored = server.database().sql(f"SELECT sha256 FROM uploads WHERE id = '{made['id']}'")[0][0]
        for _ in range(2):  # from the store, and from memory
            whole = seeker.get(made["url"])
            assert len(whole.body) == made["size"] and hashlib.sha256(whole.body).hexdigest() == stored
        etag, last = whole.headers["etag"], made["size"] - 1
        assert seeker.call("GET", made["url"], status=304, headers={"If-None-Match": etag}).body == b""
        part = seeker.call("GET", made["url"], status=206, headers={"Range": f"bytes=100-{last - 100}", "If-Range": etag})
        assert part.body == whole.body[100:-100]
        assert part.headers["content-range"] == f"bytes 100-{last - 100}/{made['size']}"
        assert seeker.call("GET", made["url"], status=206, headers={"Range": "bytes=-7"}).body == whole.body[-7:]
        seeker.call("GET", made["url"], status=416, headers={"Range": f"bytes={made['size']}-"})
        thumbnail = seeker.get(made["thumbnail_url"])
        assert thumbnail.body.startswith(b"\x89PNG") and thumbnail.headers["etag"] != etag
        assert thumbnail.headers["content-security-policy"] == "default-src 'none'; sandbox"


def test_a_chat_picture_is_for_the_sides_alone(server):
    seeker, helper, stranger = (Person(server.base) for _ in range(3))
    made = seeker.post("/api/gigs", gig(), 201).json
    helper.post(f"/api/gigs/{made['id']}/accept", None, 200)
    room = seeker.get("/api/chat/rooms").json["rooms"][0]["id"]
    picture = upload(seeker, png(50, 50, random.Random(1)), category="chat").json
    seeker.post(f"/api/chat/rooms/{room}/messages", {"image_url": picture["url"]}, 201)
    shown = helper.get(picture["url"])
    assert shown.headers["cache-control"] == "private, max-age=300"
    link = helper.get(f"/api/upload/{picture['id']}/link").json["url"]
    with Client(server.base) as nobody:
        for path in (picture["url"], picture["thumbnail_url"]):
            stranger.get(path, 404)
            nobody.get(path, 404)
        assert nobody.get(link).body == shown.body


def test_what_is_removed_leaves_the_bucket(server, store):
    """By its owner, and after a day without a reference."""
    someone = Person(server.base)
    removed, collected, used = (upload(someone, png(20, 20)).json for _ in range(3))
    someone.post("/api/gigs", gig(image_urls=[used["url"]]), 201)
    someone.call("DELETE", f"/api/upload/{used['id']}", status=409)
    someone.call("DELETE", f"/api/upload/{removed['id']}", status=204)
    wait_for(lambda: not set(keys_of(removed)) & set(store.keys()), "the objects are gone")
    someone.get(removed["url"], 404)
    server.database().sql(f"UPDATE uploads SET unused_since = now() - interval '25 hours' WHERE id = '{collected['id']}'")
    server.stop()
    server.start()  # what is done now and then is done first thing
    wait_for(lambda: not set(keys_of(collected)) & set(store.keys()), "what nobody refers to is collected", slack(20))
    someone.get(collected["url"], 404)
    assert set(keys_of(used)) <= set(store.keys())


def test_a_store_that_is_gone_comes_back(server, store):
    """503 with a time to try again, nothing left behind, everything else goes on."""
    someone = Person(server.base)
    kept = upload(someone, png(30, 30, random.Random(2))).json
    cold = upload(someone, png(30, 30, random.Random(3))).json
    whole = someone.get(kept["url"]).body
    before, objects = rows(server), store.keys()
    sums = server.database().sql(f"SELECT files, bytes FROM upload_sums WHERE user_id = '{someone.id}'")
    assert is_ready(server)
    store.stop()
    try:
        wait_for(lambda: not is_ready(server), "readiness tells")
        with Client(server.base) as anyone:
            assert "store" in anyone.get("/health/ready", 503).json["detail"]
            anyone.get("/health/live")
        for _ in range(3):
            refused = upload(someone, png(30, 30, random.Random(4)), 503)
            assert refused.json["code"] == "service_unavailable" and int(refused.headers["retry-after"]) > 0
        wait_for(lambda: not incoming(server), "no temporary file stays")
        assert rows(server) == before
        assert server.database().sql(f"SELECT files, bytes FROM upload_sums WHERE user_id = '{someone.id}'") == sums
        assert someone.get(kept["url"]).body == whole, "in memory"
        someone.get(cold["url"], 503)
        someone.post("/api/gigs", gig(image_urls=[kept["url"]]), 201)
    finally:
        store.start()
    wait_for(lambda: is_ready(server), "readiness tells that it is back")
    assert store.keys() == objects
    assert len(someone.get(cold["url"]).body) == cold["size"]
    upload(someone, png(30, 30, random.Random(4)))


def test_from_a_folder_to_a_bucket(store):
    """Copied while the server runs, then switched: every address gives the same bytes."""
    with new_server() as moving:
        someone = Person(moving.base)
        made = [upload(someone, png(20 + n, 20, random.Random(n))).json for n in range(8)]
        made.append(upload(someone, png(900, 900, random.Random(9))).json)
        paths = [each[name] for each in made for name in ("url", "thumbnail_url")]
        before = {path: (answer.body, answer.headers["etag"]) for path in paths for answer in [someone.get(path)]}
        settings = {"data_directory": moving.directory, **store.settings}
        first = run("files", "copy", "local", "s3", **settings)
        assert first.returncode == 0, first.stderr
        late = upload(someone, png(40, 40, random.Random(10))).json
        before[late["url"]] = (someone.get(late["url"]).body, someone.get(late["url"]).headers["etag"])
        moving.stop()
        second = run("files", "copy", "local", "s3", **settings)
        assert second.returncode == 0, second.stderr
        os.rename(f"{moving.directory}/files", f"{moving.directory}/files.before")
        moving.settings.update(storage="s3", **store.settings)
        moving.start()
        for path, (body, etag) in before.items():
            answer = someone.get(path)
            assert (answer.body, answer.headers["etag"]) == (body, etag), path
        assert not moving.database().sql("SELECT 1 FROM uploads WHERE unused_since < now() - interval '1 hour'")

"""People in rooms under faults: devices that come back whenever their socket ends, resume from what they have, and send
again, with the same client_id, what was not acknowledged. What each has seen is kept and held against the database.
"""

import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import time
import uuid

import websockets
from harness import Client, Person, gig, quantile, slack
from websockets.exceptions import ConnectionClosed, InvalidHandshake

SECONDS = float(os.environ.get("HOURZ_TEST_SECONDS", "10"))
LOST = (OSError, EOFError, ConnectionClosed, InvalidHandshake, asyncio.TimeoutError)


def connect(base, token, **options):
    return websockets.connect(
        base.replace("http", "ws") + "/ws", extra_headers={"Authorization": f"Bearer {token}"}, compression=None,
        max_size=None, ping_interval=None, open_timeout=slack(10), close_timeout=0.5, **options)


async def pause(over, seconds):
    """Ends early when it is over."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)


async def until(condition, what, seconds=20):
    end, never = time.monotonic() + slack(seconds), asyncio.Event()
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what() if callable(what) else what}"
        await pause(never, 0.02)


async def frame_of(peer, kind, seconds=10, **match):
    """The next frame of this type whose data has these members; others are passed over."""
    async def find():
        while True:
            frame = json.loads(await peer.recv())
            if frame["type"] == kind and all(frame["data"].get(k) == v for k, v in match.items()):
                return frame["data"]
    return await asyncio.wait_for(find(), slack(seconds))


async def say(peer, kind, **data):
    await peer.send(json.dumps({"type": kind, "id": 1, "data": data}))


class Device:
    """Somebody's device in one room. `bases` are tried in turn. With `pace`, it sends, and rests up to so many seconds
    between an acknowledgement and the next message."""

    def __init__(self, bases, person, room, seed, pace=None):
        self.bases, self.person, self.room, self.pace = itertools.cycle(bases), person, room, pace
        self.random = random.Random(seed)
        self.last, self.heard_at, self.peer = 0, 0.0, None
        self.seen = []  # (seq, client_id), as they came
        self.faults, self.ends = [], collections.Counter()
        self.latencies, self.online = [], {}
        self.sent, self.acknowledged, self.pending, self.retries = 0, {}, None, 0
        self.joined, self.answered = asyncio.Event(), asyncio.Event()
        self.quiet, self.over = asyncio.Event(), asyncio.Event()
        self.tasks = []

    def start(self):
        self.tasks = [asyncio.create_task(self.live())]
        if self.pace is not None:
            self.tasks.append(asyncio.create_task(self.send()))

    async def end(self):
        self.over.set()
        for task in self.tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def drop(self):
        """Ends the connection without a word, or with one."""
        if self.peer is None:
            return
        if self.random.random() < 0.5:
            self.peer.transport.abort()
        else:
            self.tasks.append(asyncio.create_task(self.peer.close()))

    async def live(self):
        while not self.over.is_set():
            try:
                async with connect(next(self.bases), self.person.token) as self.peer:
                    await self.stay()
            except LOST as lost:
                code = lost.rcvd.code if isinstance(lost, ConnectionClosed) and lost.rcvd else type(lost).__name__
                self.ends[code] += 1
                if isinstance(code, int) and code >= 4500:
                    self.faults.append(f"sent away for good: {code}")
            finally:
                self.peer = None
                self.joined.clear()
                self.answered.set()
            await pause(self.over, self.random.uniform(0.01, 0.1))

    async def stay(self):
        await say(self.peer, "join_room", room_id=self.room, after_seq=self.last)
        while True:
            self.take(json.loads(await self.peer.recv()))

    def take(self, frame):
        kind, data = frame["type"], frame["data"]
        if kind == "room_joined":
            if not data["complete"]:
                self.faults.append(f"too much missed after {self.last}")
            for message in data["messages"]:
                self.message(message)
            self.joined.set()
        elif kind == "receive_message":
            if not self.joined.is_set():
                self.faults.append("a message before room_joined")
            self.message(data["message"])
            if data["message"]["type"] == "TEXT":
                self.latencies.append(time.monotonic() - float(data["message"]["content"].split()[0]))
        elif kind == "message_ack":
            message = data["message"]
            known = self.acknowledged.setdefault(message["client_id"], (message["id"], message["seq"]))
            if known != (message["id"], message["seq"]):
                self.faults.append(f"acknowledged twice, as {known} and {message['seq']}")
            if message["client_id"] == self.pending:
                self.pending = None
                self.answered.set()
        elif kind == "presence":
            self.online[data["user_id"]] = data["online"]
        elif kind == "error":
            self.ends[data["code"]] += 1
            self.answered.set()

    def message(self, message):
        if message["seq"] != self.last + 1:
            self.faults.append(f"{message['seq']} after {self.last}")
        self.last, self.heard_at = message["seq"], time.monotonic()
        self.seen.append((message["seq"], message["client_id"]))

    async def send(self):
        """Until it is to be quiet, and longer while something is not acknowledged."""
        while self.pending or not self.quiet.is_set():
            await self.joined.wait()
            if self.pending is None:
                self.pending, began = str(uuid.uuid4()), time.monotonic()
                self.sent += 1
            else:
                self.retries += 1
            self.answered.clear()
            with contextlib.suppress(*LOST):
                await say(self.peer, "send_message", room_id=self.room, client_id=self.pending, content=f"{began} {'x' * 50}")
                await asyncio.wait_for(self.answered.wait(), slack(5))
            if self.pending is None:
                await pause(self.quiet, self.random.uniform(0, self.pace))
            else:
                await pause(asyncio.Event(), 0.03)


class Crowd:
    """Devices under way together, and what must hold of them in the end."""

    def __init__(self, devices):
        self.devices = devices

    async def __aenter__(self):
        for device in self.devices:
            device.start()
        await until(lambda: all(device.joined.is_set() for device in self.devices), "all have joined", 30)
        return self

    async def __aexit__(self, kind, *_):
        await asyncio.gather(*(device.end() for device in self.devices))

    def acknowledged(self):
        return sum(len(device.acknowledged) for device in self.devices)

    async def progress(self, count, seconds=30):
        """Until so many more messages are acknowledged."""
        goal = self.acknowledged() + count
        await until(lambda: self.acknowledged() >= goal, f"{count} messages more", seconds)

    async def settle(self, database, seconds=30):
        """No new messages; what is open is settled, everybody has everything. The last number of each room."""
        for device in self.devices:
            device.quiet.set()
        await until(lambda: all(task.done() for device in self.devices for task in device.tasks[1:]),
                    lambda: f"all is acknowledged: {[(d.ends, d.peer) for d in self.devices if d.pending][:5]}", seconds)
        last = {row[0]: int(row[1]) for row in database.sql("SELECT id, last_seq FROM chat_rooms")}

        def behind():
            return [(device.last, last[device.room], device.ends) for device in self.devices if device.last < last[device.room]]

        await until(lambda: not behind(), lambda: f"all is received: {behind()[:5]}", seconds)
        return last

    def check(self, database, last):
        """Every device saw 1..n, and the database holds each acknowledged message once, under its number."""
        for device in self.devices:
            assert not device.faults, (device.faults[:5], device.ends)
            assert [seq for seq, _ in device.seen] == list(range(1, last[device.room] + 1))
        stored, times = {}, collections.Counter()
        rooms = {device.room for device in self.devices}
        for room, seq, one, client_id in database.sql("SELECT room_id, seq, id, client_id FROM chat_messages"):
            if room not in rooms:
                continue
            stored[client_id] = one, int(seq)
            times[client_id] += 1
            times[room] += 1
        del times[""], stored[""]
        for device in self.devices:
            assert times[device.room] == last[device.room], "numbers without gaps"
            for client_id, known in device.acknowledged.items():
                assert times[client_id] == 1, f"{client_id} is stored {times[client_id]} times"
                assert stored[client_id] == known
            assert len(device.acknowledged) == device.sent
        assert sum(device.sent for device in self.devices) == len(stored)

    def figures(self):
        latencies = [each for device in self.devices for each in device.latencies] or [0]
        ends = sum((device.ends for device in self.devices), collections.Counter())
        retries = sum(device.retries for device in self.devices)
        return (f"{self.acknowledged()} acknowledged, {sum(len(d.seen) for d in self.devices)} received, {retries} retries, "
                f"ends {dict(ends)}; p50 {quantile(latencies, 0.5) * 1e3:.1f} ms, p99 {quantile(latencies, 0.99) * 1e3:.1f} ms")


def make_rooms(seeker, helper, count=1):
    """Rooms of these two."""
    known = set()
    for n in range(count):
        one = seeker.post("/api/gigs", gig(title=f"Room {n}"), 201).json["id"]
        helper.post(f"/api/gigs/{one}/accept", None, 200)
        known.add(one)
    page, rooms = seeker.get("/api/chat/rooms", limit=100).json, []
    while True:
        rooms += [room["id"] for room in page["rooms"] if room["gig_id"] in known]
        if len(rooms) == count:
            return rooms
        page = seeker.get("/api/chat/rooms", limit=100, cursor=page["next_cursor"]).json


def two_people(base, **names):
    return Person(base, "Mali", **names), Person(base, "Somchai", **names)


def client_of(person, base):
    return Client(base, person.token)

"""One room, sockets that come and go: whoever resumes has every message once and in order; whoever does not read is sent
away and costs nobody anything.
"""

import asyncio
import contextlib
import json
import random
import time

import pytest
from chatters import SECONDS, Crowd, Device, connect, frame_of, make_rooms, pause, say, two_people, until
import harness
from harness import quantile, slack
from websockets.exceptions import ConnectionClosed
from ws_wire import TEXT, Socket, frame


BURST = 1200


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as pages:
        return int(pages.read().split()[1]) * 4096


def test_everybody_drops_and_resumes(server):
    """Six send, four read; somebody is cut off about every 50 ms."""
    async def run():
        seeker, helper = two_people(server.base)
        (room,) = make_rooms(seeker, helper)
        devices = [Device([server.base], (seeker, helper)[n % 2], room, n, pace=0.05 if n < 6 else None) for n in range(10)]
        chance, drops = random.Random(3), 0
        async with Crowd(devices) as crowd:
            end, never = time.monotonic() + SECONDS, asyncio.Event()
            while time.monotonic() < end:
                await pause(never, chance.uniform(0, 0.1))
                chance.choice(devices).drop()
                drops += 1
            last = await crowd.settle(server.database())
            crowd.check(server.database(), last)
            print(f"{drops} drops; {last[room]} messages; {crowd.figures()}")
            assert drops > 8 * SECONDS and crowd.acknowledged() > 100

    asyncio.run(run())


class Flood:
    """Sends so many messages a second of so many bytes over a few sockets, counting from the planned times, and takes in
    the answers."""

    WIDTH = 4

    def __init__(self, base, person, room, rate, size):
        self.base, self.person, self.room, self.rate, self.size = base, person, room, rate, size
        self.sent, self.acknowledged, self.refused = 0, 0, []
        self.over = asyncio.Event()

    async def __aenter__(self):
        self.peers = [await connect(self.base, self.person.token) for _ in range(self.WIDTH)]
        self.sending = asyncio.create_task(self.send())
        self.reading = [asyncio.create_task(self.read(peer)) for peer in self.peers]
        return self

    async def __aexit__(self, *_):
        self.over.set()
        await self.sending
        with contextlib.suppress(AssertionError):
            await until(lambda: self.acknowledged + len(self.refused) >= self.sent, "all is answered")
        for peer in self.peers:
            await peer.close()
        await asyncio.gather(*self.reading)
        assert self.acknowledged == self.sent and not self.refused, (self.acknowledged, self.sent, self.refused[:3])

    async def reach(self, count):
        await until(lambda: self.acknowledged >= count, lambda: f"{count} messages, {self.acknowledged} so far", 60)

    async def send(self):
        began = time.monotonic()
        while not self.over.is_set():
            await pause(self.over, max(0, began + self.sent / self.rate - time.monotonic()))
            content = f"{time.monotonic()} ".ljust(self.size, "x")
            await say(self.peers[self.sent % self.WIDTH], "send_message", room_id=self.room, content=content)
            self.sent += 1

    async def read(self, peer):
        with contextlib.suppress(ConnectionClosed):
            while True:
                answer = json.loads(await peer.recv())
                self.acknowledged += answer["type"] == "message_ack"
                if answer["type"] == "error":
                    self.refused.append(answer)


async def read_for(peer, last, latencies, over):
    """Reads messages in order, until it is over and nothing comes any more; the last number."""
    while True:
        try:
            data = await frame_of(peer, "receive_message", 0.5 if over.is_set() else 20)
        except asyncio.TimeoutError:
            assert over.is_set()
            return last
        assert data["message"]["seq"] == last + 1
        last += 1
        latencies.append(time.monotonic() - float(data["message"]["content"].split()[0]))


def test_who_stops_reading_is_sent_away(server):
    """W08: 5 MB go to a room of which one socket does not read."""
    async def run():
        seeker, helper = two_people(server.base)
        (room,) = make_rooms(seeker, helper)
        calm, stalled_while = [], []
        async with connect(server.base, helper.token) as reader:
            await say(reader, "join_room", room_id=room)
            last = (await frame_of(reader, "room_joined"))["room"]["last_message"]["seq"]
            over = asyncio.Event()
            reading = asyncio.create_task(read_for(reader, last, calm, over))
            async with Flood(server.base, seeker, room, 100, 3900) as flood:
                await flood.reach(300)
            over.set()
            last = await reading
            before = resident_bytes(server.pid)
            silent = Socket(server.address(), "/ws", f"Authorization: Bearer {helper.token}", receive_bytes=4096)
            silent.send(frame(TEXT, json.dumps({"type": "join_room", "id": 1, "data": {"room_id": room, "after_seq": last}})))
            seen = []
            while True:  # up to its place in the room, then nothing more
                told = json.loads(silent.read()[1])
                if told["type"] == "room_joined":
                    break
            over = asyncio.Event()
            reading = asyncio.create_task(read_for(reader, last, stalled_while, over))
            most = before
            async with Flood(server.base, seeker, room, 100, 3900) as flood:
                for count in range(50, BURST + 1, 50):
                    await flood.reach(count)
                    most = max(most, resident_bytes(server.pid))
            over.set()
            final = await reading
        # Now it reads what the kernel had still: in order, then 4408 or a cut.
        ended = None
        silent.peer.settimeout(slack(10))
        try:
            while ended is None:
                kind, payload = silent.read()
                if kind == "close":
                    ended = int.from_bytes(payload[:2], "big")
                elif kind == "text":
                    told = json.loads(payload)
                    if told["type"] == "receive_message":
                        seen.append(told["data"]["message"]["seq"])
        except (EOFError, ConnectionResetError):
            ended = "cut"
        silent.peer.close()
        assert ended in (4408, "cut"), ended
        assert seen == list(range(last + 1, last + 1 + len(seen))) and len(seen) < BURST
        # It comes back for the rest, which is more than one join brings: the middle by REST.
        at = seen[-1] if seen else last
        while at < final:
            async with connect(server.base, helper.token) as back:
                page = helper.get(f"/api/chat/rooms/{room}/messages", after_seq=at, limit=100).json["messages"]
                if final - at > 100:
                    assert [each["seq"] for each in page] == list(range(at + 1, at + 101))
                    at += 100
                    continue
                await say(back, "join_room", room_id=room, after_seq=at)
                joined = await frame_of(back, "room_joined")
                assert joined["complete"] and [each["seq"] for each in joined["messages"]] == list(range(at + 1, final + 1))
                at = final
        grown = (most - before) / 1e6
        print(f"ended {ended} after {len(seen)}; memory + {grown:.1f} MB at most; p99 of the other "
              f"{quantile(calm, 0.99) * 1e3:.1f} ms before, {quantile(stalled_while, 0.99) * 1e3:.1f} ms beside it, p50 "
              f"{quantile(calm, 0.5) * 1e3:.1f} and {quantile(stalled_while, 0.5) * 1e3:.1f}")
        if harness.sanitized():
            return  # it keeps what was freed, and takes its time
        assert grown < slack(6)
        assert quantile(stalled_while, 0.99) < max(slack(0.25), 3 * quantile(calm, 0.99))

    asyncio.run(run())


@pytest.mark.parametrize("fresh", [True, False], ids=["on a new socket", "on one socket, leaving and joining again"])
def test_joining_while_others_send(server, fresh):
    """Wherever in the stream a join falls, what it brings and what comes after are one sequence."""
    async def run():
        seeker, helper = two_people(server.base)
        (room,) = make_rooms(seeker, helper)
        chance, held = random.Random(5), 0
        shared = None
        async with Flood(server.base, seeker, room, 200, 40) as flood:
            for _ in range(100 if fresh else 200):
                after = chance.randrange(max(1, flood.acknowledged - 80), max(2, flood.acknowledged + 1))
                peer = shared or await connect(server.base, helper.token)
                shared = None if fresh else peer
                await say(peer, "join_room", room_id=room, after_seq=after)
                joined = await frame_of(peer, "room_joined")
                seqs = [each["seq"] for each in joined["messages"]]
                assert joined["complete"]
                for _ in range(8):
                    seqs.append((await frame_of(peer, "receive_message"))["message"]["seq"])
                assert seqs == list(range(after + 1, after + 1 + len(seqs)))
                held += 1
                if fresh:
                    await peer.close()
                elif chance.random() < 0.5:  # else it joins once more without having left
                    await say(peer, "leave_room", room_id=room)
                    await frame_of(peer, "room_left")
            if shared:
                await shared.close()
        print(f"{held} joins while {flood.acknowledged} messages were sent")

    asyncio.run(run())

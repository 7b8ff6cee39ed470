"""Two servers on one database are one conversation: by LISTEN and NOTIFY, and over a Redis that dies in the middle. One
of them is killed, and frozen, under load; what its people wrote and read goes on with the other.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time

import harness
import pytest
from chatters import SECONDS, LOST, Crowd, Device, client_of, connect, frame_of, make_rooms, pause, say, two_people, until
from harness import Server, gig, quantile, scratch, slack, wait_for
from redis_server import Redis


@contextlib.contextmanager
def two_servers(**settings):
    with harness.server(**settings) as one, scratch() as folder:
        two = Server(f"{folder}/data", secret=one.secret(), **one.database().urls(), **settings)
        try:
            yield one, two
        finally:
            two.close()


@pytest.fixture(scope="module", params=["postgres", "redis"])
def bus(request):
    """The settings for it, and its Redis."""
    if request.param == "postgres":
        yield {}, None
    elif shutil.which("redis-server") is None:
        pytest.skip("redis-server is not here")
    else:
        with scratch() as folder:
            redis = Redis(folder)
            try:
                yield {"redis_url": redis.url}, redis
            finally:
                redis.kill()


@pytest.fixture(scope="module")
def servers(bus):
    with two_servers(sockets_per_user=1000, **bus[0]) as (one, two):
        yield one, two


def metric(server, name):
    status, _, body = harness.Raw(server.address()).ask("GET", "/metrics")
    assert status == 200
    return next(float(line.split()[1]) for line in body.decode().splitlines() if line.startswith(name + " "))


def wait_met(*servers):
    for server in servers:
        wait_for(lambda one=server: metric(one, "hourz_bus_peers") == len(servers) - 1, "they have met", slack(20))


def in_rooms(one, two, people, rooms, pace, alone=False):
    """In each room two devices of either side: one here, one there. With `alone`, each knows but its own server."""
    devices = []
    for room in rooms:
        for n in range(4):
            bases = [one.base, two.base] if n < 2 else [two.base, one.base]
            devices.append(
                Device(bases[:1] if alone else bases, people[n % 2], room, len(devices), pace if n % 2 == 0 else None))
    return devices


def test_messages_cross(servers):
    """In order, once, and quickly."""
    one, two = servers
    wait_met(one, two)

    async def run():
        people = two_people(one.base)
        devices = in_rooms(one, two, people, make_rooms(*people, 5), 0.1, alone=True)
        async with Crowd(devices) as crowd:
            await pause(asyncio.Event(), min(SECONDS, 5))
            last = await crowd.settle(one.database())
        crowd.check(one.database(), last)
        print(crowd.figures())
        assert all(not device.ends for device in devices)
        assert quantile([each for device in devices for each in device.latencies], 0.5) < slack(0.15)

    asyncio.run(run())


def test_typing_presence_and_receipts_cross(servers):
    one, two = servers
    wait_met(one, two)

    async def run():
        seeker, helper = two_people(one.base)
        (room,) = make_rooms(seeker, helper)
        async with connect(one.base, seeker.token) as here, connect(two.base, helper.token) as there:
            for peer in (here, there):
                await say(peer, "join_room", room_id=room)
                await frame_of(peer, "room_joined")
            await frame_of(here, "presence", user_id=helper.id, online=True)
            await frame_of(there, "presence", user_id=seeker.id, online=True)
            took = []
            for peer, other, who in [(here, there, seeker), (there, here, helper)] * 5:
                for typing in (True, False):
                    began = time.monotonic()
                    await say(peer, "typing", room_id=room, is_typing=typing)
                    await frame_of(other, "typing", user_id=who.id, is_typing=typing)
                    took.append(time.monotonic() - began)
            await say(there, "mark_read", room_id=room, seq=1)
            await frame_of(here, "read_receipt", user_id=helper.id, seq=1)
            async with connect(two.base, seeker.token) as device:  # a second device keeps its person present
                await say(device, "join_room", room_id=room)
                await frame_of(device, "presence", user_id=helper.id, online=True)
                await here.close()
            began = time.monotonic()
            await frame_of(there, "presence", user_id=seeker.id, online=False)
            print(f"typing crosses within {quantile(took, 0.5) * 1e3:.1f} ms, at most {max(took) * 1e3:.1f} ms")

    asyncio.run(run())


def test_logout_closes_sockets_there(servers):
    one, two = servers
    wait_met(one, two)

    async def run():
        person, _ = two_people(one.base)
        async with connect(two.base, person.token) as there, connect(one.base, person.token) as here:
            await frame_of(there, "ready")
            began = time.monotonic()
            await asyncio.get_running_loop().run_in_executor(None, person.post, "/api/auth/logout", None, 204)
            for peer in (here, there):
                await asyncio.wait_for(peer.wait_closed(), slack(10))
                assert peer.close_code == 4503
            print(f"closed after {(time.monotonic() - began) * 1e3:.0f} ms")
            assert time.monotonic() - began < slack(1)

    asyncio.run(run())


def test_alerts_cross(servers):
    """A gig of the one reaches who watches on the other: once, and once that it is gone."""
    one, two = servers
    wait_met(one, two)

    async def run():
        seeker, helper = two_people(one.base)
        async with connect(two.base, helper.token) as there, connect(one.base, helper.token) as here:
            for peer in (here, there):
                await say(peer, "watch_area", latitude=13.7563, longitude=100.5018, radius_km=50)
                await frame_of(peer, "area_watched")
            loop, took, ids = asyncio.get_running_loop(), [], []
            for _ in range(20):
                began = time.monotonic()
                made = await loop.run_in_executor(None, lambda: seeker.post("/api/gigs", gig(), 201).json["id"])
                for peer in (there, here):
                    assert (await frame_of(peer, "gig_nearby"))["gig"]["id"] == made
                took.append(time.monotonic() - began)
                ids.append(made)
            with client_of(helper, two.base) as taker:
                await loop.run_in_executor(None, lambda: taker.post(f"/api/gigs/{ids[0]}/accept", None, 200))
            for peer in (there, here):  # what came twice would stand before this
                kinds = []
                while "gig_gone" not in kinds:
                    frame = await asyncio.wait_for(peer.recv(), slack(10))
                    kinds.append(json.loads(frame)["type"])
                assert "gig_nearby" not in kinds
            print(f"a gig's post until both know: p50 {quantile(took, 0.5) * 1e3:.1f} ms, at most {max(took) * 1e3:.0f} ms")

    asyncio.run(run())


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_one_ends_under_load(bus, how):
    """Its clients go on with the other and miss nothing; its people are gone from sight: of a server that died within
    10 s, of one that says good-bye at once."""
    settings = {name: f"{url}/1" for name, url in bus[0].items()}  # the others' words are not for these
    with two_servers(sockets_per_user=1000, **settings) as (one, two):
        wait_met(one, two)

        async def run():
            people = two_people(one.base)
            devices = in_rooms(one, two, people, make_rooms(*people, 10), 0.2)
            pair = two_people(one.base)
            (room,) = make_rooms(*pair)
            async with Crowd(devices) as crowd, connect(one.base, pair[0].token) as watching:
                await say(watching, "join_room", room_id=room)
                gone = await connect(two.base, pair[1].token)
                await say(gone, "join_room", room_id=room)
                await frame_of(watching, "presence", user_id=pair[1].id, online=True)
                await crowd.progress(100)
                died = time.monotonic()
                await asyncio.get_running_loop().run_in_executor(None, two.kill if how == "killed" else two.stop)
                cut = [device for n, device in enumerate(devices) if n % 4 >= 2]
                await until(lambda: all(device.ends for device in cut), "they notice")
                await until(lambda: all(device.joined.is_set() for device in devices), "all are with the other", 30)
                back = time.monotonic() - died
                await frame_of(watching, "presence", 15, user_id=pair[1].id, online=False)
                unseen = time.monotonic() - died
                await crowd.progress(100)
                with contextlib.suppress(*LOST):
                    await gone.close()
                last = await crowd.settle(one.database())
            crowd.check(one.database(), last)
            print(f"{how}: all back after {back:.2f} s, presence ended after {unseen:.1f} s; {crowd.figures()}")
            assert unseen < slack(10)
            # One message each may have crossed the good-bye on its way.
            assert how == "killed" or all(1001 in device.ends and device.retries <= 1 for device in cut)

        asyncio.run(run())


def test_one_is_frozen_under_load(servers):
    """For 3 s; then it catches up, and nobody's connection is lost."""
    one, two = servers
    wait_met(one, two)

    async def run():
        people = two_people(one.base)
        devices = in_rooms(one, two, people, make_rooms(*people, 5), 0.1, alone=True)
        here = [device for n, device in enumerate(devices) if n % 4 < 2]
        async with Crowd(devices) as crowd:
            await crowd.progress(50)
            os.kill(two.pid, signal.SIGSTOP)
            try:
                before = sum(len(device.seen) for device in here)
                await pause(asyncio.Event(), 3)
            finally:
                os.kill(two.pid, signal.SIGCONT)
            meanwhile = sum(len(device.seen) for device in here) - before
            await crowd.progress(50)
            last = await crowd.settle(one.database())
        crowd.check(one.database(), last)
        print(f"{meanwhile} received by the others while it was frozen; {crowd.figures()}")
        assert meanwhile > 20 and all(not device.ends for device in devices)

    asyncio.run(run())


def test_redis_dies_and_comes_back(bus, servers):
    """Messages cross all the time, within about a second; typing and presence are right again once Redis is back."""
    _, redis = bus
    if redis is None:
        pytest.skip("by LISTEN and NOTIFY")
    one, two = servers
    wait_met(one, two)

    async def run():
        people = two_people(one.base)
        rooms = make_rooms(*people, 5)
        devices = in_rooms(one, two, people, rooms, 0.1, alone=True)
        loop = asyncio.get_running_loop()
        async with Crowd(devices) as crowd:
            async def phase():
                for device in devices:
                    device.latencies.clear()
                await crowd.progress(150)
                took = [each for device in devices for each in device.latencies]
                return f"p50 {quantile(took, 0.5) * 1e3:.0f} ms, p99 {quantile(took, 0.99) * 1e3:.0f} ms", max(took)

            late, friend = two_people(one.base)
            (late_room,) = make_rooms(late, friend)
            async with connect(one.base, late.token) as here, connect(two.base, friend.token) as there:
                for peer in (here, there):
                    await say(peer, "join_room", room_id=late_room)
                    await frame_of(peer, "room_joined")
                await frame_of(here, "presence", user_id=friend.id, online=True)
                with_it = await phase()
                redis.kill()
                without, longest = await phase()
                # Said while there is no Redis: it is told when there is one again.
                await say(there, "leave_room", room_id=late_room)
                await frame_of(there, "room_left")
                await loop.run_in_executor(None, redis.start)
                began = time.monotonic()
                await frame_of(here, "presence", user_id=friend.id, online=False)
                right = time.monotonic() - began
                await say(there, "join_room", room_id=late_room)
                await frame_of(there, "presence", user_id=late.id, online=True)
                await frame_of(here, "presence", user_id=friend.id, online=True)
                # Words may be lost until the way out is back too, which is another connection than the way in.
                for attempt in range(20):
                    await say(here, "typing", room_id=late_room, is_typing=attempt % 2 == 0)
                    with contextlib.suppress(asyncio.TimeoutError):
                        await frame_of(there, "typing", seconds=1, user_id=late.id)
                        break
                else:
                    pytest.fail("typing does not cross")
            again = await phase()
            last = await crowd.settle(one.database())
        crowd.check(one.database(), last)
        print(f"with Redis {with_it[0]}; without {without}; again {again[0]}; presence is right {right:.2f} s after its return")
        assert longest < slack(2) and all(not device.ends for device in devices)

    asyncio.run(run())

"""The server is killed under two hundred sockets, and its database under fifty: what was acknowledged stands, what was
not is sent again and stands once, and everybody who comes back has everything.
"""

import asyncio
import random
import signal
import time

from chatters import SECONDS, Crowd, Device, make_rooms, pause, two_people, until
from harness import Client, family_of, is_running, quantile, signal_all, slack, wait_for

import harness

KILLS = 10 if SECONDS > 10 else 5


def devices_in(server, rooms, each, pace):
    """In each room so many devices, half of either side's; the first two of them send."""
    pairs = [two_people(server.base) for _ in range(5)]
    devices = []
    for seeker, helper in pairs:
        for room in make_rooms(seeker, helper, rooms // len(pairs)):
            for n in range(each):
                devices.append(Device([server.base], (seeker, helper)[n % 2], room, len(devices), pace if n < 2 else None))
    return devices


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return command.read()
    except OSError:
        return b""


def ready(server):
    def answers():
        with Client(server.base, timeout_s=slack(5)) as client:
            return client.call("GET", "/health/ready").status == 200

    wait_for(answers, "ready", slack(20))


def test_kill_under_two_hundred_sockets():
    async def run(server):
        devices = devices_in(server, 50, 4, 0.4)
        chance, back = random.Random(11), []
        loop = asyncio.get_running_loop()
        async with Crowd(devices) as crowd:
            for _ in range(KILLS):
                await crowd.progress(150)
                await pause(asyncio.Event(), chance.uniform(0, 0.2))
                server.kill()
                began = time.monotonic()
                await loop.run_in_executor(None, server.start)
                await until(lambda: all(device.joined.is_set() for device in devices), "all are back", 30)
                back.append(time.monotonic() - began)
            await crowd.progress(150)
            last = await crowd.settle(server.database())
            crowd.check(server.database(), last)
        happened = sum(device.retries for device in devices)
        print(f"{KILLS} kills, all 200 back after {quantile(back, 0.5):.2f} s, at most {max(back):.2f} s; {crowd.figures()}")
        assert happened > 0

    with harness.server(sockets_per_user=1000) as server:
        asyncio.run(run(server))


def test_postgresql_killed_under_fifty_sockets():
    """D2: by the immediate stop, and one of its processes by SIGKILL, which restarts all of them."""
    async def run(server):
        devices = devices_in(server, 10, 5, 0.2)
        loop, back = asyncio.get_running_loop(), []
        async with Crowd(devices) as crowd:
            for turn in range(5):
                await crowd.progress(100)
                postmaster = server.postmaster()
                if turn % 2:
                    # A process that served somebody: the others are ended and start anew.
                    victims = [pid for pid in family_of(postmaster) if b"hourz_app" in command_of(pid)]
                    signal_all(victims[:1], signal.SIGKILL)
                else:
                    signal_all([postmaster], signal.SIGQUIT)
                    await loop.run_in_executor(None, wait_for, lambda pid=postmaster: not is_running(pid), "it ended")
                began = time.monotonic()
                await loop.run_in_executor(None, ready, server)
                await crowd.progress(100)
                await until(lambda at=began: all(device.heard_at > at for device in devices), "everybody hears again", 30)
                back.append(time.monotonic() - began)
            last = await crowd.settle(server.database())
            crowd.check(server.database(), last)
        print(f"everybody heard again after {quantile(back, 0.5):.2f} s, at most {max(back):.2f} s; {crowd.figures()}")
        assert is_running(server.pid)

    with harness.server(sockets_per_user=1000) as server:
        asyncio.run(run(server))

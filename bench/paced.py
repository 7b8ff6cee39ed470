#!/usr/bin/env python3
"""Sends requests at a fixed rate over kept connections and prints what came of it as one line of JSON.

Usage: paced.py PORT REQUESTS RATE SECONDS CONNECTIONS. Each request has a time at which it is to be sent, and its
latency counts from that time: what waits for a stalled server, or for a free connection, counts as waiting. A loader
that sends the next request only after the answer to the last would leave such stalls out, and saturates the machine.
"""
import contextlib
import gc
import json
import os
import pathlib
import random
import select
import socket
import sys
import time


def read_requests(path: pathlib.Path) -> list[bytes]:
    data, start, found = path.read_bytes(), 0, []
    while start < len(data):
        line = data.index(b"\n", start)
        length = int(data[start:line])
        found.append(data[line + 1:line + 1 + length])
        start = line + 1 + length
    return found


def is_whole(answer: bytes) -> bool:
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = answer.lower().find(b"\r\ncontent-length:", 0, head)
    length = int(answer[at + 17:answer.index(b"\r\n", at + 2)]) if at >= 0 else 0
    return len(answer) >= head + 4 + length


def quantile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


def main() -> int:
    port, rate, seconds, connections = int(sys.argv[1]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
    requests = read_requests(pathlib.Path(sys.argv[2]))
    chance = random.Random()
    # The loader stands for clients on other machines: its own turn on the processor is no latency of the server.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    free = []
    for _ in range(connections):
        each = socket.create_connection(("127.0.0.1", port))
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        each.setblocking(False)
        free.append(each)
    under_way: dict[socket.socket, list] = {}  # planned time, what came so far
    taken, errors, late = [], 0, []
    gc.disable()
    clock = time.perf_counter
    begin, sent, total = clock() + 0.01, 0, round(rate * seconds)
    give_up = begin + seconds + 10
    while sent < total or under_way:
        now = clock()
        if now > give_up:
            errors += total - sent + len(under_way)
            break
        planned = begin + sent / rate
        while sent < total and planned <= now and free:
            each = free.pop()
            each.send(chance.choice(requests))
            under_way[each] = [planned, b""]
            late.append(clock() - planned)
            sent += 1
            planned = begin + sent / rate
        wait = max(0.0, planned - clock()) if sent < total and free else 1.0
        for each in select.select(list(under_way), (), (), wait)[0]:
            state = under_way[each]
            data = each.recv(65536)
            state[1] += data
            if data and not is_whole(state[1]):
                continue
            del under_way[each]
            taken.append(clock() - state[0])
            errors += not state[1].startswith(b"HTTP/1.1 2")
            if not data:
                each.close()
                each = socket.create_connection(("127.0.0.1", port))
                each.setblocking(False)
            free.append(each)
    spent = clock() - begin
    taken.sort()
    late.sort()
    result = {"requests": len(taken), "per_second": len(taken) / spent, "errors": errors}
    for name, part in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1)):
        result[name] = round(quantile(taken, part) * 1e3, 4) if taken else float("inf")
    result["sent_late_p99_ms"] = round(quantile(late, 0.99) * 1e3, 4)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

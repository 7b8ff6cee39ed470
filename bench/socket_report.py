"""What bench/sockets.py measured, against the targets: as Markdown, and as bars for the plot."""
import json

from load import HERE

LABELS = {"pgbench": "pgbench (the limit)", "server": "Hourz", "peer": "ws + pg"}


def checks(run: dict | None) -> list[dict]:
    if not run:
        return []
    found = []

    def check(what: str, measured: float, bound: float, unit: str, at_least: bool = True) -> None:
        found.append({"what": what, "measured": round(measured, 4), "target": bound, "unit": unit,
                      "at_least": at_least, "pass": measured >= bound if at_least else measured <= bound})

    fan_out, rooms, half = run["fan_out"], run["rooms"]["full"], run["rooms"]["half"]
    check("one room of 1,000 sockets: deliveries", fan_out["server"]["deliveries_per_second"], 250_000, "a second")
    if "peer" in fan_out:
        check("one room of 1,000 sockets: deliveries against the ws peer",
              fan_out["server"]["deliveries_per_second"] / fan_out["peer"]["deliveries_per_second"], 3, "times")
    check("200 rooms of 5: acknowledged messages against pgbench",
          rooms["server"]["messages_per_second"] / rooms["pgbench"]["messages_per_second"], 0.70, "of it")
    check("200 rooms of 5, at half that rate: delivery p99", half["server"]["p99_ms"], 25, "ms", at_least=False)
    check("pages of history against pgbench",
          run["pages"]["server"]["per_second"] / run["pages"]["pgbench"]["per_second"], 0.60, "of it")
    check("oldest page of a room of 100,000 against the newest, p50",
          run["pages"]["oldest"]["p50_ms"] / run["pages"]["newest"]["p50_ms"], 1.2, "times", at_least=False)
    check(f"{run['idle']['sockets']:,} idle sockets: memory of the server for each",
          run["idle"]["bytes_a_socket"] / 1000, 20, "KB", at_least=False)
    check("joining with 1,000 missed messages, p50", run["join"]["server"]["p50_ms"], 15, "ms", at_least=False)
    check(f"gig_nearby with {run['alerts']['areas']:,} standing areas, from the commit without the disk's wait, p99",
          run["alerts"]["from_commit_p99_ms_without_disk"], 10, "ms", at_least=False)
    check("matching a gig with 100,000 areas, mean", run["matching"]["mean_us"], 100, "µs", at_least=False)
    lost = sum(each.get(key, 0) for part in (fan_out, rooms, half) for side, each in part.items() if side == "server"
               for key in ("lost", "out_of_order", "unacknowledged")) + run["alerts"]["lost"]
    check("messages and alerts lost, doubled or out of order", lost, 0, "", at_least=False)
    return found


def count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def markdown(run: dict | None) -> list[str]:
    if not run:
        return []
    lines = ["", "## Real time", "",
             f"{run['rounds']} rounds of {run['seconds']:g} s. In brackets the lowest and highest round.", "",
             "| what | side | messages a second | deliveries a second | delivery p50 ms | p99 ms |",
             "| --- | --- | ---: | ---: | ---: | ---: |"]
    for title, part in (("one room of 1,000 sockets, 16 messages under way", run["fan_out"]),
                        ("200 rooms of 5 sockets, each room a message under way", run["rooms"]["full"]),
                        ("200 rooms of 5 sockets, at half of that rate", run["rooms"]["half"])):
        for side, label in LABELS.items():
            if side not in part:
                continue
            each = part[side]
            spread = "" if title.startswith("one room") else f" ({count(each['low'])}–{count(each['high'])})"
            wide = f" ({count(each['low'])}–{count(each['high'])})" if title.startswith("one room") else ""
            delivered = f"{count(each['deliveries_per_second'])}{wide}" if "deliveries_per_second" in each else ""
            times = f"{each['p50_ms']:.1f} | {each['p99_ms']:.1f}" if "p99_ms" in each else " | "
            lines.append(f"| {title} | {label} | {count(each['messages_per_second'])}{spread} | {delivered} | {times} |")
    pages, alerts, idle = run["pages"], run["alerts"], run["idle"]
    lines += ["", "| joining with 1,000 missed messages | p50 ms | p99 ms | bytes |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {LABELS[side]} | {each['p50_ms']:.2f} | {each['p99_ms']:.2f} | {each['bytes']:,.0f} |"
              for side, each in sorted(run["join"].items(), reverse=True)]
    lines += ["", f"History, pages of 50 anywhere in a room of 100,000: {count(pages['server']['per_second'])} a second, "
              f"pgbench {count(pages['pgbench']['per_second'])}. On one connection the newest page has a p50 of "
              f"{pages['newest']['p50_ms']:.3f} ms, the oldest {pages['oldest']['p50_ms']:.3f} ms.", "",
              f"{idle['sockets']:,} idle sockets, each with a caller: {idle['bytes_a_socket']:,} bytes of the server's "
              f"memory each ({idle['before_bytes'] / 2**20:.0f} MiB before, {idle['after_bytes'] / 2**20:.0f} after); "
              f"all of them opened in {idle['opened_s']:.1f} s.", "",
              f"Alerts: {alerts['areas']:,} sockets with a standing area each (as many as {run['descriptors']:,} "
              f"descriptors a process allow, 100,000 at most), {alerts['bytes_a_socket']:,} bytes of memory each; "
              f"{alerts['posted']:,.0f} gigs gave {alerts['alerts']:,.0f} alerts, and by the database's measure there "
              f"had to be {alerts['expected']:,}. From the commit, whose time the database tells (before it waits for the "
              f"disk), to `gig_nearby` at the client: p50 {alerts['from_commit_p50_ms']:.2f} ms, p99 "
              f"{alerts['from_commit_p99_ms']:.2f} ms; with `synchronous_commit` off, that is, without the disk's wait: "
              f"p50 {alerts['from_commit_p50_ms_without_disk']:.2f} ms, p99 "
              f"{alerts['from_commit_p99_ms_without_disk']:.2f} ms. All durable again: from before the gig is posted: p50 "
              f"{alerts['from_sending_p50_ms']:.2f} ms, p99 {alerts['from_sending_p99_ms']:.2f} ms; from "
              f"the answer to the post: p50 {alerts['from_answer_p50_ms']:.2f} ms, p99 "
              f"{alerts['from_answer_p99_ms']:.2f} ms. Matching and telling took {alerts['match_and_tell_us']:.1f} µs a "
              "gig and thread by the server's own histogram.", "",
              f"The index alone, with {run['matching']['areas']:,.0f} areas of 2 to 10 km all over Thailand: mean "
              f"{run['matching']['mean_us']:.1f} µs a gig, p50 {run['matching']['p50_us']:.1f}, p99 "
              f"{run['matching']['p99_us']:.1f}, with {run['matching']['matches']:.1f} matches each.", "",
              "Load average of the machine after each part: " + ", ".join(
                  f"{name.replace('_', ' ')} {value}" for name, value in run["load_average_after"].items()) + ".", ""]
    peer = json.loads((HERE / "peers" / "ws" / "package.json").read_text())["dependencies"]
    lines += ["- The load client is `bench/socket_load.cpp`, one thread. It counts every delivery, and reads the sequence "
              "of all sockets (of every 50th in the room of 1,000). After each run of the server the rooms in the "
              "database are held against what was acknowledged.",
              "- Rate limits are lifted: sockets send as fast as they are answered. Senders take turns; at half the rate "
              "messages come at random (Poisson), and their time counts from when they were to be sent. Where times are "
              "measured and not rates (half the rate, joining, alerts), the client may take the processor first if it is "
              "allowed to (as root): it stands for clients on other machines.",
              "- pgbench: 16 clients, `chat.send` as it is, in 200 rooms; and `chat.newest` for history.",
              f"- The peer: `bench/peers/ws`, ws {peer['ws']} and pg {peer['pg']}, one process, since two cannot share a "
              "room without a bus; it stores a message before it acknowledges it, without an outbox, presence or read "
              "markers.",
              "- A gig is given to the sockets by its public point; the alerts are compared with `ST_Distance` over all "
              "areas."]
    return lines


def bars(run: dict, left: float, top: float, width: float, text, colours: dict) -> tuple[list[str], float]:
    """Like the report's bars: each row on a scale of its own."""
    out, y = [], top
    for title, part, key in (("one room of 1,000 sockets: deliveries", run["fan_out"], "deliveries_per_second"),
                             ("200 rooms of 5: messages, durable", run["rooms"]["full"], "messages_per_second")):
        rates = {side: part[side][key] for side in LABELS if side in part}
        out.append(text(left, y, title, 13, weight="bold"))
        y += 8
        for side, rate in rates.items():
            length = max(1.0, rate / max(rates.values()) * (width - 220))
            out.append(f'<rect x="{left + 130:.1f}" y="{y:.1f}" width="{length:.1f}" height="18" fill="{colours[side]}"/>')
            out.append(text(left + 124, y + 13, LABELS[side], 11, "end"))
            out.append(text(left + 136 + length, y + 13, f"{count(rate)}/s", 11))
            y += 22
        y += 22
    return out, y

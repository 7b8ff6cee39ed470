"""What was measured, against the targets: as Markdown for people, and as a plot. No dependency, no number of its own."""
from xml.sax.saxutils import escape

import money_report
import socket_report
import uploads_report

SIDES = {"pgbench": "#8d99ae", "server": "#d1495b", "peer": "#edae49"}
LABELS = {"pgbench": "pgbench (the limit)", "server": "Hourz", "peer": "Fastify + pg"}
OPERATIONS = {"gig": "gig by id", "near": "nearby, 5 km, 20 rows", "post": "posting a gig, durable"}


def count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def checks(sizes: dict) -> list[dict]:
    """Each target with what was measured; a target that a run did not reach for is left out."""
    found = []

    def check(what: str, measured: float, bound: float, unit: str, at_least: bool = True) -> None:
        found.append({"what": what, "measured": round(measured, 4), "target": bound, "unit": unit,
                      "at_least": at_least, "pass": measured >= bound if at_least else measured <= bound})

    for size, run in sorted(sizes.items(), key=lambda pair: int(pair[0])):
        def add(what: str, *rest, size=size, **named) -> None:
            check(f"{int(size):,} gigs: {what}", *rest, **named)

        operations = run["operations"]
        is_small = int(size) <= 100_000
        for name, of_pgbench, of_peer in (("gig", 0.60, 3.0), ("near", 0.85, 2.0), ("post", 0.75, 1.5)):
            sides = operations.get(name, {})
            server = sides.get("server", {}).get("64")
            if not server or not is_small:
                continue
            if "pgbench" in sides:
                add(f"{OPERATIONS[name]} against pgbench", server["per_second"] / sides["pgbench"]["16"]["per_second"],
                    of_pgbench, "of it")
            if "peer" in sides:
                add(f"{OPERATIONS[name]} against the peer", server["per_second"] / sides["peer"]["64"]["per_second"],
                    of_peer, "times")
        live = operations.get("live", {}).get("server", {}).get("64")
        if live and is_small:
            add("/health/live", live["per_second"], 60_000, "a second")
        if run.get("map"):
            worst = max(run["map"].items(), key=lambda pair: pair[1]["p50_ms"])
            add(f"slowest map view, p50 ({worst[0]})", worst[1]["p50_ms"], 3.0, "ms", at_least=False)
        if run.get("at_256"):
            add("256 connections: memory of the server", run["at_256"]["resident_bytes"] / 2**20, 100, "MiB",
                at_least=False)
            add("256 connections: errors", run["at_256"]["errors"], 0, "", at_least=False)
        login = run.get("login")
        if login:
            add("logins against the hash alone", login["per_second"] / login["hash_alone_per_second"], 0.80, "of it")
            for pace, figures in login.get("paces", {}).items():
                add(f"p99 of {int(pace):,} gig reads a second during 100 logins against without",
                    figures["p99_ms_during"] / figures["p99_ms_before"], 2.0, "times", at_least=False)
    near = {int(size): run["operations"].get("near", {}).get("server", {}).get("64") for size, run in sizes.items()}
    small, large = near.get(100_000), near.get(2_000_000)
    if small and large:
        check("nearby at 2,000,000 gigs against 100,000", large["per_second"] / small["per_second"], 0.75, "of it")
    return found


def markdown(result: dict) -> str:
    lines = ["# Speed", "",
             f"Measured by `./dev bench` at commit {result['commit']} on a machine of {result['machine']}, everything on "
             "it: server, database, peer and load generator. Absolute figures wander with the machine; the ratios are "
             "what to look at. Each figure is the median of the rounds, in which the three sides take turns.", "",
             "![requests per second and latency](latest.svg)", "", "## Targets", "",
             "| what | measured | target | |", "| --- | ---: | ---: | --- |"]
    for each in result["checks"]:
        sign = "≥" if each["at_least"] else "≤"
        measured = count(each["measured"]) if each["measured"] >= 100 else f"{each['measured']:.2f}"
        figure = f"{measured} {each['unit']}" if each["unit"] else f"{each['measured']:.0f}"
        lines.append(f"| {each['what']} | {figure} | {sign} {each['target']:,g} | "
                     f"{'met' if each['pass'] else '**missed**'} |")
    for size, run in sorted(result["sizes"].items(), key=lambda pair: int(pair[0])):
        lines += ["", f"## {int(size):,} gigs", "",
                  f"{run['rounds']} rounds of {run['seconds']:g} s, {run['users']:,} users; demo data loaded in "
                  f"{run['load_s']:.0f} s. In brackets the lowest and highest round.", "",
                  "| what | side | connections | a second | p50 ms | p99 ms | errors |",
                  "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
        for name, sides in run["operations"].items():
            for side in SIDES:
                for connections, figures in sides.get(side, {}).items():
                    p50 = milliseconds(figures["p50_ms"]) if "p50_ms" in figures else \
                        f"mean {milliseconds(figures['average_ms'])}"
                    p99 = milliseconds(figures["p99_ms"]) if "p99_ms" in figures else ""
                    lines.append(
                        f"| {OPERATIONS.get(name, '`/health/live`')} | {LABELS[side]} | {connections} | "
                        f"{count(figures['per_second'])} ({count(figures['low'])}–{count(figures['high'])}) | "
                        f"{p50} | {p99} | {figures['errors']} |")
        if run.get("map"):
            lines += ["", "| map view, one connection | p50 ms | p99 ms | marks |", "| --- | ---: | ---: | ---: |"]
            lines += [f"| {name} | {milliseconds(figures['p50_ms'])} | {milliseconds(figures['p99_ms'])} | "
                      f"{figures['marks']} |" for name, figures in run["map"].items()]
        login = run.get("login")
        if login:
            lines += ["", f"Logins: {count(login['per_second'])} a second; the hash alone, on a pool like "
                      f"the server's: {count(login['hash_alone_per_second'])} a second."]
            if login.get("paces"):
                lines += ["", "| gig reads beside logins, at a fixed rate | connections | logins | p50 ms | p99 ms | "
                          "p99.9 ms | errors |", "| --- | ---: | --- | ---: | ---: | ---: | ---: |"]
                lines += [f"| {int(pace):,} a second | {each['connections']} | {words} | "
                          f"{milliseconds(each['p50_ms_' + when])} | {milliseconds(each['p99_ms_' + when])} | "
                          f"{milliseconds(each['p999_ms_' + when])} | {each['errors_' + when]} |"
                          for pace, each in login["paces"].items()
                          for when, words in (("before", "none"), ("during", "100 at once"))]
                lines += ["", f"For information, with no target: {login['reads_connections']} connections that read "
                          f"without pause get {count(login['reads_per_second_before'])} reads a second without logins "
                          f"and {count(login['reads_per_second_during'])} beside 100 at once."]
        if run.get("at_256"):
            lines += ["", f"At 256 connections the server held at most {run['at_256']['resident_bytes'] / 2**20:.0f} "
                      f"MiB and gave {run['at_256']['errors']} errors."]
    lines += money_report.markdown(result.get("money"))
    lines += uploads_report.markdown(result.get("uploads"))
    lines += socket_report.markdown(result.get("sockets"))
    lines += ["", "## How", "",
              "- The server runs on its own private cluster with durable settings, with authentication, rate limits and "
              "log lines on (logins are measured with the limits off: they would stop it after five). Requests carry "
              "the tokens of thousands of accounts, so that no account passes its limit.",
              "- pgbench: 16 clients, `-M prepared`, generic plans, the statements of `src/rooms/*/*.sql` as they are.",
              "- The peer: `bench/peers/fastify`, two workers with eight connections each, the same statements prepared "
              "by name, the same token check, the same answers (compared before measuring); `@fastify/rate-limit` by "
              "account, set so high that it never refuses, and Fastify's own logger into a file, one line a request.",
              "- Reads beside logins are sent at a fixed rate (`bench/paced.py`), and each counts from the time at which "
              "it was to be sent. The loader may take the processor first where it is allowed to (as root): it stands "
              "for clients on other machines. They are measured "
              + ("with" if any(run.get("login", {}).get("autogroups") for run in result.get("sizes", {}).values())
                 else "without")
              + " the kernel's autogroups (`sched_autogroup_enabled`), as a service under systemd or in a container runs.",
              "- wrk sends requests written out beforehand and picked at random: ids of some thousand gigs, points in "
              "the dense neighbourhoods.",
              "- " + "; ".join(f"{name} {version}" for name, version in result["versions"].items()) + "."]
    return "\n".join(lines) + "\n"


# --- the plot ---------------------------------------------------------------------------------------------------------


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="#222">{escape(words)}</text>')


def bars(run: dict, left: float, top: float, width: float) -> tuple[list[str], float]:
    """Requests a second, each operation on a scale of its own: what matters is the ratio between its three bars."""
    out, y = [], top
    for name, title in OPERATIONS.items():
        sides = run["operations"].get(name)
        if not sides:
            continue
        rates = {side: sides[side]["64" if side != "pgbench" else "16"]["per_second"]
                 for side in SIDES if sides.get(side, {}).get("64" if side != "pgbench" else "16")}
        most = max(rates.values(), default=1)
        out.append(text(left, y, title, 13, weight="bold"))
        y += 8
        for side, rate in rates.items():
            length = max(1.0, rate / most * (width - 220))
            out.append(f'<rect x="{left + 130:.1f}" y="{y:.1f}" width="{length:.1f}" height="18" fill="{SIDES[side]}"/>')
            out.append(text(left + 124, y + 13, LABELS[side], 11, "end"))
            out.append(text(left + 136 + length, y + 13, f"{count(rate)}/s", 11))
            y += 22
        y += 22
    return out, y


def latencies(run: dict, left: float, top: float, width: float, height: float) -> list[str]:
    """p50 and p99 of the server over connections, both axes logarithmic."""
    import math
    steps, colours = [1, 16, 64, 256], {"gig": "#00798c", "near": "#d1495b", "post": "#6a4c93"}
    values = [figures[key] for name in colours for figures in run["operations"].get(name, {}).get("server", {}).values()
              for key in ("p50_ms", "p99_ms")]
    if not values:
        return []
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x_of(connections: int) -> float:
        return left + 40 + math.log2(connections) / 8 * (width - 60)

    def y_of(value: float) -> float:
        return top + height - (math.log10(value) - low) / (high - low) * height

    out = [text(left, top - 14, "Hourz, latency by connections: p50 solid, p99 dashed", 13, weight="bold")]
    for power in range(low, high + 1):
        y = y_of(10**power)
        out.append(f'<line x1="{left + 40:.1f}" y1="{y:.1f}" x2="{left + width:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(text(left + 34, y + 4, f"{10**power:g} ms", 10, "end"))
    for step in steps:
        out.append(text(x_of(step), top + height + 16, str(step), 11, "middle"))
    for row, (name, colour) in enumerate(colours.items()):
        sides = run["operations"].get(name, {}).get("server", {})
        for key, dash in (("p50_ms", ""), ("p99_ms", ' stroke-dasharray="5 4"')):
            points = " ".join(f"{x_of(s):.1f},{y_of(sides[str(s)][key]):.1f}" for s in steps if str(s) in sides)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        y = top + height + 36 + row * 16
        out.append(f'<rect x="{left + 40:.1f}" y="{y - 9:.1f}" width="12" height="10" fill="{colour}"/>')
        out.append(text(left + 58, y, OPERATIONS[name], 11))
    return out


def plot(result: dict) -> str:
    body, y = [], 36.0
    for size, run in sorted(result["sizes"].items(), key=lambda pair: int(pair[0])):
        body.append(text(24, y, f"{int(size):,} gigs, {result['machine']}, 64 connections (pgbench: 16 clients)", 15,
                         weight="bold"))
        drawn, bottom = bars(run, 24, y + 30, 520)
        body += drawn + latencies(run, 580, y + 44, 360, 190)
        y = max(bottom, y + 330) + 20
    if result.get("money"):
        body.append(text(24, y, f"Money, {result['machine']}", 15, weight="bold"))
        drawn, y = money_report.bars(result["money"], 24, y + 30, 520, text, SIDES)
        body += drawn
    if result.get("uploads"):
        body.append(text(24, y, f"Pictures, {result['machine']}", 15, weight="bold"))
        drawn, y = uploads_report.bars(result["uploads"], 24, y + 30, 520, text, SIDES)
        body += drawn
    if result.get("sockets"):
        body.append(text(24, y, f"Real time, {result['machine']}", 15, weight="bold"))
        drawn, y = socket_report.bars(result["sockets"], 24, y + 30, 520, text, SIDES)
        body += drawn
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 {y:.0f}" width="980" height="{y:.0f}" '
            'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>' + "\n".join(body) + "</svg>\n")

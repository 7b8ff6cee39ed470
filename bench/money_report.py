"""What bench/money.py measured, against the targets: as Markdown, and as bars for the plot."""

OPERATIONS = {"hold": ("holding a payment", 0.70), "release": ("releasing a payment", 0.70),
              "wallet": ("the wallet", 0.60), "history": ("a page of history", 0.60)}
LABELS = {"pgbench": "pgbench (the limit)", "server": "Hourz"}


def count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def checks(run: dict | None) -> list[dict]:
    if not run:
        return []
    found = []
    for name, (words, bound) in OPERATIONS.items():
        measured = run[name]["server"]["per_second"] / run[name]["pgbench"]["per_second"]
        found.append({"what": f"{run['entries']:,} ledger entries: {words} against pgbench", "measured": round(measured, 4),
                      "target": bound, "unit": "of it", "at_least": True, "pass": measured >= bound})
    seconds = run["audit"]["seconds"]
    found.append({"what": f"audit of {run['audit']['entries']:,} ledger entries", "measured": seconds, "target": 10,
                  "unit": "s", "at_least": False, "pass": seconds <= 10})
    return found


def markdown(run: dict | None) -> list[str]:
    if not run:
        return []
    lines = ["", "## Money", "",
             f"{run['rounds']} rounds of {run['seconds']:g} s on a ledger of {run['entries']:,} entries; in brackets the "
             "lowest and highest round.", "",
             "| what | side | a second | p50 ms | p99 ms | errors |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for name, (words, _) in OPERATIONS.items():
        for side, label in LABELS.items():
            each = run[name][side]
            p50 = f"{each['p50_ms']:.2f}" if "p50_ms" in each else f"mean {each['average_ms']:.2f}"
            p99 = f"{each['p99_ms']:.2f}" if "p99_ms" in each else ""
            lines.append(f"| {words} | {label} | {count(each['per_second'])} ({count(each['low'])}–{count(each['high'])}) | "
                         f"{p50} | {p99} | {each['errors']} |")
    audit = run["audit"]
    return lines + [
        "", f"`hourz admin audit-ledger` of {audit['entries']:,} entries, hashes included: {audit['seconds']:.2f} s "
        f"({audit['low']:.2f}–{audit['high']:.2f}).", "",
        "- Hourz: wrk with 64 connections, each request once: `POST /api/transactions/escrow` on gigs that wait for it, "
        "`PUT /api/transactions/{id}/release` on payments that are held; `GET /api/wallet` and "
        "`GET /api/transactions/history` (20 a page) of 2,000 people. Rate limits are lifted.",
        "- pgbench: 16 clients; the same statements of `payments.sql` in the same transactions and with the same commits "
        "(a hold has two: the intent before the provider is asked, and the posting), `ledger_post` with its hash chain "
        "and checks included. What is compared is thus what HTTP, tokens, JSON, the provider's mock and the log lines cost "
        "over the database's own work; not the ledger against a simpler one.",
        f"- Measured {'with' if run.get('autogroups') else 'without'} the kernel's autogroups, as logins are"
        + (", and before the machine's other users (`--first`: all of it is scheduled ahead of them)." if run.get("first")
           else "."),
        "- After each run what was posted is counted in the ledger, and all of it audited at the end."]


def bars(run: dict, left: float, top: float, width: float, text, colours: dict) -> tuple[list[str], float]:
    """Like the report's bars: each row on a scale of its own."""
    out, y = [], top
    for name, (words, _) in OPERATIONS.items():
        out.append(text(left, y, words, 13, weight="bold"))
        y += 8
        rates = {side: run[name][side]["per_second"] for side in LABELS}
        for side, rate in rates.items():
            length = max(1.0, rate / max(rates.values()) * (width - 220))
            out.append(f'<rect x="{left + 130:.1f}" y="{y:.1f}" width="{length:.1f}" height="18" fill="{colours[side]}"/>')
            out.append(text(left + 124, y + 13, LABELS[side], 11, "end"))
            out.append(text(left + 136 + length, y + 13, f"{count(rate)}/s", 11))
            y += 22
        y += 22
    return out, y

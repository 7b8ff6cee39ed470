#!/usr/bin/env python3
"""The table of capacity in docs/operations.md, from bench/results/latest.json: `./dev bench` and `./dev format` write it.

bench/capacity.py [--check]: with --check nothing is written, and it exits 1 when the page says something else.
"""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operations.md"
RESULTS = ROOT / "bench" / "results" / "latest.json"
HEAD = "| what | measured |\n| --- | --- |\n"
SIZE = "100000"
CONNECTIONS = "64"
PACE = "2000"


def rows(result: dict) -> list[tuple[str, str]]:
    run, sockets = result["sizes"][SIZE], result["sockets"]

    def served(operation: str) -> str:
        figures = run["operations"][operation]["server"][CONNECTIONS]
        return f"{figures['per_second']:,.0f} a second at {CONNECTIONS} connections (p50 {figures['p50_ms']:.2g} ms)"

    def posted(part: str) -> str:
        figures = result["money"][part]["server"]
        return f"{figures['per_second']:,.0f} a second at 64 connections (p50 {figures['p50_ms']:.2g} ms)"

    def beside(paces: dict, when: str) -> str:
        return f"{paces[PACE][f'p99_ms_{when}']:.1f} ms"

    logins, uploads = run["login"]["paces"], result["uploads"]["beside"]["paces"]
    half = sockets["rooms"]["half"]["server"]
    return [
        ("gig by id", served("gig")),
        (f"nearby, 5 km, 20 rows, of {run['gigs']:,} gigs", served("near")),
        ("posting a gig, durable", served("post")),
        ("logins", f"{run['login']['per_second']:,.0f} a second"),
        ("p99 of 2,000 gig reads a second alone, and beside 100 logins at once",
         f"{beside(logins, 'before')}, {beside(logins, 'during')}"),
        (f"the same alone, and beside {result['uploads']['beside']['at_once']} uploads at once",
         f"{beside(uploads, 'before')}, {beside(uploads, 'during')}"),
        ("storing a photograph of 12 megapixels", f"p50 {result['uploads']['storing']['p50_ms']:.0f} ms, one at a time"),
        ("holding a payment", posted("hold")),
        ("releasing a payment", posted("release")),
        (f"`hourz admin audit-ledger` of {result['money']['entries']:,} entries", f"{result['money']['audit']['seconds']:.1f} s"),
        ("deliveries in a room of 1,000 sockets", f"{sockets['fan_out']['server']['deliveries_per_second']:,.0f} a second"),
        ("acknowledged messages in 200 rooms of 5",
         f"{sockets['rooms']['full']['server']['messages_per_second']:,.0f} a second; at half of that, delivery p99 "
         f"{half['p99_ms']:.1f} ms"),
        ("an idle socket", f"{sockets['idle']['bytes_a_socket'] / 1000:.1f} KB of the server's memory"),
        ("a standing area of alerts", f"{sockets['alerts']['bytes_a_socket'] / 1000:.1f} KB; matching a gig with "
                                      f"{sockets['matching']['areas']:,} of them {sockets['matching']['mean_us']:.1f} µs"),
        ("the server at 256 busy connections", f"{run['at_256']['resident_bytes'] / 2**20:.0f} MiB"),
    ]


def write(check: bool = False) -> bool:
    """Whether the page had the figures already."""
    page = PAGE.read_text(encoding="utf-8")
    start = page.index(HEAD) + len(HEAD)
    end = page.index("\n\n", start) + 1
    table = "".join(f"| {what} | {figure} |\n" for what, figure in rows(json.loads(RESULTS.read_text(encoding="utf-8"))))
    if page[start:end] == table:
        return True
    if check:
        print(f"docs/operations.md has other figures than bench/results:\n{page[start:end]}", file=sys.stderr)
    else:
        PAGE.write_text(page[:start] + table + page[end:], encoding="utf-8")
    return False


if __name__ == "__main__":
    checking = sys.argv[1:] == ["--check"]
    sys.exit(0 if write(checking) or not checking else 1)

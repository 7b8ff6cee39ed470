"""What bench/uploads.py measured, against the targets: as Markdown, and as bars for the plot."""

LABELS = {"nginx": "nginx", "server": "Hourz"}


def checks(run: dict | None) -> list[dict]:
    if not run:
        return []
    found = []

    def check(what: str, measured: float, bound: float, unit: str, at_least: bool = False) -> None:
        found.append({"what": what, "measured": round(measured, 4), "target": bound, "unit": unit,
                      "at_least": at_least, "pass": measured >= bound if at_least else measured <= bound})

    check("storing a JPEG of 12 megapixels and its thumbnail, p50", run["storing"]["p50_ms"], 400, "ms")
    check("storing a JPEG of 12 megapixels: more memory of the server", run["storing"]["grown_bytes"] / 1e6, 100, "MB")
    for pace, figures in run["beside"]["paces"].items():
        check(f"p99 of {int(pace):,} gig reads a second during {run['beside']['at_once']} uploads at once against without",
              figures["p99_ms_during"] / figures["p99_ms_before"], 1.5, "times")
    check(f"{run['beside']['at_once']} uploads at once: without an answer in {run['beside']['patience_s']} s",
          run["beside"]["unanswered"], 0, "")
    serving = run["serving"]
    check("serving a picture of 100 KB against nginx",
          serving["server"]["per_second"] / serving["nginx"]["per_second"], 0.60, "of it", at_least=True)
    return found


def markdown(run: dict | None) -> list[str]:
    if not run:
        return []
    storing, beside, serving = run["storing"], run["beside"], run["serving"]
    lines = ["", "## Pictures", "",
             f"{run['rounds']} rounds; in brackets the lowest and highest of them.", "",
             f"A JPEG of {run['pixels'][0]:,} by {run['pixels'][1]:,} pixels and {run['photo_bytes'] / 1e6:.1f} MB, sent to "
             f"`POST /api/upload/gig` {storing['uploads']} times, one after another: p50 {storing['p50_ms']:.0f} ms "
             f"({storing['low']:.0f}–{storing['high']:.0f}), the slowest {storing['max_ms']:.0f} ms, from connecting to the "
             f"201. Stored are {storing['stored_bytes'] / 1e6:.1f} MB and the thumbnail. The server held "
             f"{storing['before_bytes'] / 1e6:.0f} MB before the first and at most {storing['grown_bytes'] / 1e6:.0f} MB more "
             "until the last.", "",
             f"{beside['at_once']} at once, each followed by the next as soon as it is stored: {beside['uploads_per_second']:.1f} "
             f"a second, p50 {beside['upload_p50_ms'] or 0:,.0f} ms with the time that they wait for each other, "
             f"{beside['unanswered']} without an answer in {beside['patience_s']} s, at most "
             f"{beside['grown_bytes'] / 1e6:.0f} MB more memory.", "",
             "| gig reads beside uploads, at a fixed rate | connections | uploads | p50 ms | p99 ms (rounds) | p99.9 ms | errors |",
             "| --- | ---: | --- | ---: | ---: | ---: | ---: |"]
    lines += [f"| {int(pace):,} a second | {each['connections']} | {words} | {each['p50_ms_' + when]:.2f} | "
              f"{each['p99_ms_' + when]:.2f} ({', '.join(f'{one:.2f}' for one in each[f'p99_ms_{when}_rounds'])}) | "
              f"{each['p999_ms_' + when]:.2f} | {each['errors_' + when]} |"
              for pace, each in beside["paces"].items()
              for when, words in (("before", "none"), ("during", f"{beside['at_once']} at once"))]
    lines += ["", f"| a picture of {serving['bytes']:,} bytes, {serving['connections']} connections | a second | p50 ms | "
              "p99 ms |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {label} | {each['per_second']:,.0f} ({each['low']:,.0f}–{each['high']:,.0f}) | {each['p50_ms']:.2f} | "
              f"{each['p99_ms']:.2f} |" for label, each in ((LABELS[side], serving[side]) for side in LABELS)]
    return lines + [
        "", "Load average of the machine after each part: "
        + ", ".join(f"{name} {value}" for name, value in run["load_average_after"].items()) + ".", "",
        "- The pictures are made by `bench/pictures.py`, the same each time: shapes at every scale and grain, as long as a "
        "camera's. Rate limits are lifted, and each upload is another account's. Memory is the highest of the server's own "
        "process (`VmHWM`) over what it held before.",
        "- Reads beside uploads are measured as those beside logins: from when each was to be sent, "
        + ("with" if run.get("autogroups") else "without") + " the kernel's autogroups; rounds with and without uploads take "
        "turns at being first. Pictures are made by threads of nice 19, behind the server's others"
        + ("; here all of it was put before the machine's other users (`--first`), with pictures strictly behind the rest." if run.get("first")
           else "."),
        f"- nginx {serving['nginx_version']}: {serving['workers']} workers, as many as the server has threads, `sendfile`, "
        "`open_file_cache`, no access log. Hourz writes its line about each request. Both send the same bytes (compared "
        "before measuring), and take turns."]


def bars(run: dict, left: float, top: float, width: float, text, colours: dict) -> tuple[list[str], float]:
    """Like the report's bars."""
    out, y = [text(left, top, f"serving a picture of {run['serving']['bytes']:,} bytes", 13, weight="bold")], top + 8
    rates = {side: run["serving"][side]["per_second"] for side in LABELS}
    for side, rate in rates.items():
        length = max(1.0, rate / max(rates.values()) * (width - 220))
        colour = colours.get(side, colours["peer"])
        out.append(f'<rect x="{left + 130:.1f}" y="{y:.1f}" width="{length:.1f}" height="18" fill="{colour}"/>')
        out.append(text(left + 124, y + 13, LABELS[side], 11, "end"))
        out.append(text(left + 136 + length, y + 13, f"{rate:,.0f}/s", 11))
        y += 22
    return out, y + 22

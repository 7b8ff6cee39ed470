"""The money part of ./dev bench: holding and releasing, wallet and history with a million entries, and the audit.

Runs on the server's cluster of bench/run.py. pgbench runs the server's own statements, cut into the same transactions.
"""
import hashlib
import os
import pathlib
import random
import statistics as figures_of
import time

import statements
from load import Failed, Hourz, pgbench, put_first, request, without_autogroups, wrk, write_requests

ENTRIES = 1_000_000
PAYMENTS = ENTRIES // 5  # a hold is two entries, a release three
PEOPLE = 10_000
CHAINS = 8
CLIENTS = 16  # of pgbench
CONNECTIONS = 64
A_SECOND = 6_000  # more than anybody posts, so that nobody runs out
NOBODY = "00000000-0000-0000-0000-000000000000"
TODAY_US = 1_767_225_600_000_000  # the made history's clock
# A payment or gig of a batch by its number: the server's ids are as evenly spread over the chains.
MADE_ID = "('{batch}-7000-8000-' || lpad(to_hex(:n::bigint), 12, '0'))::uuid"


def say(words: str) -> None:
    print(f"· {words}", flush=True)


def id_of(batch: str, number: int) -> str:
    return f"{batch}-7000-8000-{number:012x}"


class Ledger:
    """A history as ledger_post() would have written it, hashes and all, in rows for COPY."""

    def __init__(self, accounts: dict):
        self.accounts, self.balances = accounts, dict.fromkeys(accounts.values(), 0)
        self.numbers = [0] * CHAINS
        self.links = [hashlib.sha256(f"hourz ledger chain {n}".encode()).digest() for n in range(CHAINS)]
        self.journals, self.entries = [], []

    def post(self, transaction: str, kind: str, at_us: int, lines: list) -> None:
        chain = int(transaction[-2:], 16) % CHAINS
        self.numbers[chain] += 1
        number = self.numbers[chain]
        link = hashlib.sha256(self.links[chain] +
                              f"journal {chain}/{number} {kind} {transaction} {at_us}".encode()).digest()
        at = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at_us // 1_000_000))}.{at_us % 1_000_000:06}+00"
        self.journals.append(f"{chain}\t{number}\t{kind}\t{transaction}\t{at}\t\\\\x{link.hex()}")
        for line, (account_kind, owner, amount) in enumerate(lines, 1):
            owner = owner or str(chain)
            account = self.accounts[account_kind, owner]
            link = hashlib.sha256(link + f"entry {line} {account_kind} {owner} {amount}".encode()).digest()
            self.entries.append(f"{chain}\t{number}\t{line}\t{account}\t{amount}\t\\\\x{link.hex()}")
            self.balances[account] += amount
        self.links[chain] = link


class Money:
    def __init__(self, hourz: Hourz, folder: pathlib.Path, rounds: int, seconds: float):
        self.hourz, self.folder, self.rounds, self.seconds = hourz, folder, rounds, seconds
        self.chance = random.Random(20261124)
        self.batches = 0
        self.statements = statements.read("payments")

    # --- what is there before measuring ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """On a running server with users and gigs. The rate limits are lifted: sides are compared, not refused."""
        self.hourz.stop()
        self.server = self.hourz.start("off")
        sql = self.hourz.sql
        sql("INSERT INTO sessions (id, user_id, expires_at) SELECT md5('bench' || id)::uuid, id, "
            "now() + interval '1 day' FROM users ON CONFLICT DO NOTHING")
        sessions = sql("SELECT user_id, id FROM sessions WHERE id = md5('bench' || user_id)::uuid "
                       f"ORDER BY id LIMIT {PEOPLE}")
        self.tokens = {user: self.hourz.token(user, session) for user, session in sessions}
        self.people = list(self.tokens)
        say(f"a ledger of {ENTRIES:,} entries")
        started = time.monotonic()
        self.make_history()
        say(f"written in {time.monotonic() - started:.0f} s")

    def make_history(self) -> None:
        sql, people = self.hourz.sql, self.people
        values = ", ".join(f"('{person}')" for person in people)
        sql("INSERT INTO ledger_accounts (kind, owner) SELECT kind, owner FROM (VALUES ('WALLET'), ('ESCROW')) k (kind), "
            f"(VALUES {values}) p (owner)")
        ledger = Ledger({(kind, owner): int(number) for number, kind, owner in
                         sql("SELECT id, kind, owner FROM ledger_accounts")})
        gigs = [row[0] for row in sql("SELECT id FROM gigs")]
        payments, open_ones = [], []

        def release(transaction: str, payer: str, payee: str, amount: int, fee: int, at_us: int) -> None:
            ledger.post(transaction, "RELEASE", at_us,
                        [("ESCROW", payer, -amount), ("WALLET", payee, amount - fee), ("FEES", "", fee)])

        for number in range(PAYMENTS):
            payer, payee = self.chance.sample(people, 2)
            amount, at_us = self.chance.randrange(1_000, 500_000), TODAY_US + number * 20_000_000
            fee = (amount * 500 + 5_000) // 10_000
            transaction = id_of("0a000000-0000", number)
            ledger.post(transaction, "HOLD", at_us, [("BANK", "", -amount), ("ESCROW", payer, amount)])
            at = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(at_us // 1_000_000))
            payments.append(f"{transaction}\t{gigs[number % len(gigs)]}\t{payer}\t{payee}\t{amount}\t500\t{fee}\t{amount - fee}\t"
                            f"RELEASED\tmock_card\tHZ-{number:012X}\tkey {number}\t{at}\t{at}\t3")
            open_ones.append((transaction, payer, payee, amount, fee))
            if len(open_ones) > 1_000:
                release(*open_ones.pop(0), at_us + 1)
        for each in open_ones:
            release(*each, TODAY_US + PAYMENTS * 20_000_000)
        if len(ledger.entries) != ENTRIES:
            raise Failed(f"made {len(ledger.entries)} entries")

        def copy(table: str, columns: str, rows: list) -> str:
            return f"COPY {table} ({columns}) FROM stdin;\n" + "\n".join(rows) + "\n\\.\n"
        balances = [f"{account}\t{balance}" for account, balance in ledger.balances.items() if balance]
        ends = [f"{chain}\t{ledger.numbers[chain]}\t\\\\x{ledger.links[chain].hex()}" for chain in range(CHAINS)]
        # Triggers and keys are not asked: the audit says afterwards whether all of it holds.
        sql("SET session_replication_role = replica;\nBEGIN;\n"
            + copy("transactions", "id, gig_id, payer_id, payee_id, amount, fee_bps, service_fee, net_amount, status, "
                   "payment_method, reference, request_key, created_at, released_at, version", payments)
            + copy("ledger_journals", "chain, number, kind, transaction_id, at, hash", ledger.journals)
            + copy("ledger_entries", "chain, number, line, account_id, amount, hash", ledger.entries)
            + "CREATE TEMP TABLE b (id bigint, balance bigint);\n" + copy("b", "id, balance", balances)
            + "CREATE TEMP TABLE e (chain int, journals bigint, hash bytea);\n" + copy("e", "chain, journals, hash", ends)
            + "UPDATE ledger_accounts a SET balance = b.balance FROM b WHERE b.id = a.id;\n"
            + "UPDATE ledger_chains c SET journals = e.journals, hash = e.hash FROM e WHERE e.chain = c.chain;\n"
            + "COMMIT;\nVACUUM (ANALYZE);\nCHECKPOINT;\n")

    def batch(self, status: str, count: int) -> tuple[str, list[tuple[str, str]]]:
        """A batch of gigs with both sides; of COMPLETED ones the payment is held, under the same id. Its name, and id
        and payer of each."""
        self.batches += 1
        name = f"0b{self.batches:06x}-0000"
        sides = [self.chance.sample(self.people, 2) for _ in range(count)]
        rows = "\n".join(f"{id_of(name, n)}\t{seeker}\t{helper}\t{self.chance.randrange(1_000, 500_000)}"
                         for n, (seeker, helper) in enumerate(sides))
        self.hourz.sql(
            "CREATE TEMP TABLE made (id uuid, seeker uuid, helper uuid, budget bigint);\n"
            f"COPY made FROM stdin;\n{rows}\n\\.\n"
            "SET session_replication_role = replica;\n"
            "INSERT INTO gigs (id, seeker_id, helper_id, title, description, duration_hours, budget, location, "
            "public_location, cell_x, cell_y, status, accepted_at, version) SELECT m.id, m.seeker, m.helper, 'Bench', "
            "'Bench', 1, m.budget, g.location, g.public_location, g.cell_x, g.cell_y, "
            f"'{status}', now(), 2 FROM made m, (SELECT * FROM gigs LIMIT 1) g;\n" + ("" if status == "ACCEPTED" else
            "INSERT INTO transactions (id, gig_id, payer_id, payee_id, amount, fee_bps, service_fee, net_amount, status, "
            "payment_method, reference, request_key) SELECT id, id, seeker, helper, budget, 500, (budget * 500 + 5000) / "
            "10000, budget - (budget * 500 + 5000) / 10000, 'HELD', 'mock_card', 'HZ-BENCH', id::text FROM made;\n"
            "SET session_replication_role = origin;\nSET synchronous_commit = off;\n"
            # In small transactions: versions of the accounts that all use gather in a large one.
            "DO $$ DECLARE m record; n int := 0; BEGIN FOR m IN SELECT * FROM made LOOP "
            f"PERFORM ledger_post(m.id, 'HOLD', ARRAY['BANK', 'ESCROW'], ARRAY['{NOBODY}'::uuid, m.seeker], "
            "ARRAY[-m.budget, m.budget]); n := n + 1; IF n % 50 = 0 THEN COMMIT; END IF; END LOOP; END $$;\n")
            + "VACUUM (ANALYZE) transactions, ledger_accounts, ledger_chains;\nCHECKPOINT;\n")
        return name, [(id_of(name, n), seeker) for n, (seeker, _) in enumerate(sides)]

    # --- posting ----------------------------------------------------------------------------------------------------

    def hold_script(self, batch: str) -> str:
        """What POST /api/transactions/escrow does: the intent, and when the provider has charged, the posting."""
        made = MADE_ID.format(batch=batch)
        row = {"id": made, "gig_id": made, "payer_id": ":seeker_id::uuid", "payee_id": ":helper_id::uuid",
               "amount": ":budget::bigint", "fee_bps": "500", "service_fee": "(:budget::bigint / 20)",
               "net_amount": "(:budget::bigint - :budget::bigint / 20)", "payment_method": "'mock_card'::text",
               "reference": "'HZ-BENCH'::text", "request_key": "('request ' || :n::text)", "hours": "72"}
        return (f"\\set turn :turn + 1\n\\set n :turn * {CLIENTS} + :client_id\nBEGIN;\n"
                + self.statements["payments.gig_terms"].bound(row) + " \\gset\n"
                + self.statements["payments.open"].bound(row) + ";\nCOMMIT;\nBEGIN;\n"
                + self.statements["payments.lock"].bound(row) + ";\n"
                + self.statements["payments.hold"].bound(row) + ";\nCOMMIT;\n")

    def release_script(self, batch: str) -> str:
        made = {"id": MADE_ID.format(batch=batch)}
        return (f"\\set turn :turn + 1\n\\set n :turn * {CLIENTS} + :client_id\nBEGIN;\n"
                + self.statements["payments.lock"].bound(made) + ";\n"
                + self.statements["payments.release"].bound(made) + ";\nCOMMIT;\n")

    def post(self, kind: str, side: str) -> dict:
        name, made = self.batch("ACCEPTED" if kind == "hold" else "COMPLETED", round(A_SECOND * self.seconds))
        if side == "pgbench":
            script = self.hold_script(name) if kind == "hold" else self.release_script(name)
            found = pgbench(self.hourz, script, self.folder, self.seconds, CLIENTS)
        else:
            if kind == "hold":
                all_of_them = [request("POST", "/api/transactions/escrow", self.tokens[payer], {"gig_id": gig})
                               for gig, payer in made]
            else:
                all_of_them = [request("PUT", f"/api/transactions/{one}/release", self.tokens[payer]) for one, payer in made]
            found = wrk(self.server, write_requests(self.folder / "requests.bin", all_of_them), CONNECTIONS, self.seconds,
                        once=True)
        state = "HELD" if kind == "hold" else "RELEASED"
        stored = int(self.hourz.sql(f"SELECT count(*) FROM transactions t JOIN ledger_journals j ON j.transaction_id = t.id "
                                    f"AND j.kind = '{kind.upper()}' WHERE t.status = '{state}' AND "
                                    f"t.gig_id BETWEEN '{id_of(name, 0)}' AND '{id_of(name, len(made))}'")[0][0])
        if found["errors"] or stored < found["requests"]:
            raise Failed(f"{side} posted {found['requests']} with {found['errors']} errors, and {stored} are there")
        return found

    # --- reading ----------------------------------------------------------------------------------------------------

    def some(self) -> list[str]:
        return self.chance.sample(self.people, 2_000)

    def read(self, kind: str, side: str) -> dict:
        people = self.some()
        if side == "server":
            path = "/api/wallet" if kind == "wallet" else "/api/transactions/history"
            all_of_them = [request("GET", path, self.tokens[person]) for person in people]
            return wrk(self.server, write_requests(self.folder / "requests.bin", all_of_them), CONNECTIONS, self.seconds)
        kept = "uuid" if kind == "history" else "text"
        person = f"('{{{','.join(people)}}}'::{kept}[])[:person]"
        values = {"owner": person, "viewer": person, "as_payer": "true", "as_payee": "true", "status": "NULL::text",
                  "before": "'9999-12-31'::timestamptz", "before_id": "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid",
                  "page": "21"}
        script = f"\\set person random(1, {len(people)})\n" + self.statements[f"payments.{kind}"].bound(values) + ";\n"
        return pgbench(self.hourz, script, self.folder, self.seconds, CLIENTS)

    def compare_answers(self) -> None:
        """A page as long as pgbench's, and a wallet with what the made history says."""
        person = self.people[0]
        status, page = self.server.call("GET", "/api/transactions/history", self.tokens[person])
        status_of_wallet, wallet = self.server.call("GET", "/api/wallet", self.tokens[person])
        balance = self.hourz.sql(f"SELECT balance FROM ledger_accounts WHERE kind = 'WALLET' AND owner = '{person}'")[0][0]
        if status != 200 or len(page["transactions"]) != 20 or status_of_wallet != 200 \
                or round(wallet["balance"] * 100) != int(balance):
            raise Failed(f"history {status} {str(page)[:300]}, wallet {wallet}, and the ledger says {balance}")

    # --- all of it --------------------------------------------------------------------------------------------------

    def audit(self) -> dict:
        seconds = []
        for _ in range(self.rounds):
            started = time.monotonic()
            told = self.hourz.run("admin", "audit-ledger")
            seconds.append(time.monotonic() - started)
        say(f"  audit: {figures_of.median(seconds):.2f} s: {told.strip()}")
        entries = int(self.hourz.sql("SELECT count(*) FROM ledger_entries")[0][0])
        return {"entries": entries, "seconds": round(figures_of.median(seconds), 3),
                "low": round(min(seconds), 3), "high": round(max(seconds), 3)}

    def turns(self, kind: str, run) -> dict:
        runs: dict[str, list] = {"server": [], "pgbench": []}
        for _ in range(self.rounds):
            for side in self.chance.sample(sorted(runs), 2):
                runs[side].append(run(kind, side))
        found = {}
        for side, each in runs.items():
            rates = [one["per_second"] for one in each]
            found[side] = {key: round(figures_of.median(one[key] for one in each), 3)
                           for key in ("per_second", "p50_ms", "p99_ms", "average_ms") if key in each[0]}
            found[side] |= {"low": round(min(rates), 3), "high": round(max(rates), 3),
                            "errors": sum(one["errors"] for one in each)}
        say(f"  {kind}: {found['server']['per_second']:,.0f}/s, pgbench {found['pgbench']['per_second']:,.0f}/s")
        return found

    def measure(self) -> dict:
        say(f"money: wallet and history with {ENTRIES:,} entries")
        self.compare_answers()
        result = {"rounds": self.rounds, "seconds": self.seconds, "entries": ENTRIES, "audit": self.audit()}
        for kind in ("wallet", "history"):
            result[kind] = self.turns(kind, self.read)
        say("money: holding and releasing")
        for kind in ("hold", "release"):
            result[kind] = self.turns(kind, self.post)
        self.hourz.run("admin", "audit-ledger")  # ends the run when what was posted does not hold
        return result


def measure(hourz: Hourz, folder: pathlib.Path, rounds: int, seconds: float, first: bool) -> dict:
    """On the cluster of `hourz`, which has users and gigs; its server is started anew, with the rate limits lifted."""
    money = Money(hourz, folder, rounds, seconds)
    money.prepare()
    with without_autogroups() as autogroups:
        if first:
            put_first(os.getpid(), money.server.process.pid)
        return money.measure() | {"autogroups": autogroups, "first": first}

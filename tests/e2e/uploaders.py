"""People who upload pictures and look at them, in an open loop, and what must be so at the end: every upload that was
answered 201 has its row and both files, whole, and is served with the bytes that were served at first.
"""

import collections
import hashlib
import os
import random
import threading
import time

from harness import Client, wait_for
from loads import Planned
from pictures import png, upload

WIDTH = 6
# A little more than a server keeps of pictures in memory.
SHELF_MIB = 72


class Uploaders(Planned):
    def __init__(self, server, folks, weather, rate, seed):
        """`rate`: uploads a second; three reads of files go with each."""
        super().__init__(WIDTH, 4 * rate, seed)
        self.server, self.folks, self.weather = server, folks, weather
        chance = random.Random(seed)
        self.pictures = [png(side, side, chance) for side in (16, 40, 80, 120, 160, 400)]
        self.kept, self.bodies, self.guard = [], {}, threading.Lock()
        self.statuses, self.reads, self.wrong = collections.Counter(), collections.Counter(), []

    def run(self, n):
        client = Client(self.server.base, self.folks[n % len(self.folks)].token, check=False, timeout_s=10)
        for at, roll, pick in self.turns():
            try:
                if roll < 0.25 or not self.kept:
                    self.put(client, pick)
                else:
                    self.look(client, self.kept[pick % len(self.kept)], roll)
            except Exception:  # pylint: disable=broad-except
                self.statuses["cut"] += 1
                client.close()
        client.close()

    def put(self, client, pick):
        began = time.monotonic()
        answer = upload(client, self.pictures[pick % len(self.pictures)], None, ("gig", "profile", "chat")[pick % 3])
        self.statuses[answer.status] += 1
        if answer.status == 201:
            with self.guard:
                self.kept.append({**answer.json, "token": client.token})
        elif answer.status != 503 and not (answer.status == 507 and self.weather.was("files", began)):
            self.wrong.append(f"upload: {answer}")

    def warm(self):
        """Uploads and reads so much that the server's shelf of pictures is full: until then it grows with every picture."""
        picture, filled, person = png(420, 420, random.Random(1)), 0, self.folks[-1]
        with Client(self.server.base, person.token, check=False) as client:
            while filled < SHELF_MIB << 20 and not self.over.is_set():
                answer = upload(client, picture, None)
                self.statuses[answer.status] += 1
                if answer.status == 201:
                    with self.guard:
                        self.kept.append({**answer.json, "token": client.token})
                    self.look(client, answer.json | {"token": client.token}, 0)
                    filled += answer.json["size"]
        return filled

    def look(self, client, made, roll):
        """All of it, a part of it, or the small one; a chat picture by who uploaded it."""
        target, fields = made["url"], {}
        if roll > 0.9:
            target = made["thumbnail_url"]
        elif roll > 0.7:
            fields["Range"] = f"bytes={made['size'] // 3}-{made['size'] - 1}"
        answer = client.call("GET", target, headers=fields, token=made["token"])
        self.reads[answer.status] += 1
        if answer.status == 503:
            return
        fault = self.fault_of(made, target, answer, fields)
        if fault:
            self.wrong.append(f"{target} {fields}: {fault}")

    def fault_of(self, made, target, answer, fields):
        """None when it is as it should be, and as it was before."""
        if answer.status != (206 if fields else 200):
            return repr(answer)
        body = answer.body
        whole = made["size"] - (made["size"] // 3 if fields else 0)
        if target == made["url"] and len(body) != whole:
            return f"{len(body)} bytes of {whole}"
        digest = hashlib.sha256(body).digest()
        if self.bodies.setdefault((target, bool(fields)), digest) != digest:
            return "other bytes than before"
        return None

    def check(self, database, folder):
        """How many are lost, and how many are counted wrongly: each acknowledged one against its row, its files, and what
        is served."""
        rows = {row[0]: row[1:] for row in database.sql("SELECT id, size, thumbnail_size, sha256 FROM uploads")}
        lost = []
        with Client(self.server.base, check=False) as client:
            for made in self.kept:
                fault = self.missing(made, rows.get(made["id"]), folder) or self.served(client, made, rows[made["id"]])
                if fault:
                    lost.append(f"{made['id']}: {fault}")
        sums = database.sql(
            "SELECT count(*) FROM upload_sums s WHERE (files, bytes) <> (SELECT count(*), "
            "coalesce(sum(size + thumbnail_size), 0) FROM uploads u WHERE u.owner_id = s.user_id)")
        assert not lost, f"{len(lost)} of {len(self.kept)}: {lost[:3]}"
        assert sums == [["0"]], f"sums of {sums[0][0]} people"
        return len(self.kept)

    @staticmethod
    def missing(made, row, folder):
        if row is None:
            return "no row"
        path = path_of(folder, made["id"])
        for suffix, size in (("", row[0]), (".thumb", row[1])):
            if not os.path.exists(path + suffix):
                return "no file" + suffix
            if os.path.getsize(path + suffix) != int(size):
                return "not whole" + suffix
        with open(path, "rb") as file:
            return None if hashlib.sha256(file.read()).hexdigest() == row[2] else "other bytes"

    def served(self, client, made, row):
        answer = client.call("GET", made["url"], token=made["token"])
        fault = self.fault_of(made, made["url"], answer, {})
        return fault or (hashlib.sha256(answer.body).hexdigest() != row[2] and "other bytes served")

    def strays(self, database, folder):
        """Files without a row."""
        rows = {row[0] for row in database.sql("SELECT id FROM uploads")}
        found = [name for _, _, names in os.walk(folder) for name in names if name != "lock"]
        return [name for name in found if name.removesuffix(".thumb") not in rows]

    def swept(self, server, folder):
        """How many files without a row there were; a new start removes them."""
        before = len(self.strays(server.database(), folder))
        server.stop()
        server.start()
        wait_for(lambda: not self.strays(server.database(), folder), "what has no row is swept", 30, 0.1)
        return before


def path_of(folder, one):
    return f"{folder}/objects/pictures/{one[34:]}/{one}"

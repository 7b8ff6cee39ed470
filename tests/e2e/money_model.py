"""What a gig and its money must do, said once more in a hundred lines: the reference that tests/e2e/test_payments_model.py
and test_api_fuzz.py hold the server against. It knows nothing of the server. A gig is the unit, since nothing of one gig
moves another's; what accounts hold is added up from all of them at the end.

An operation is a list of steps, each of which happens at once: a hold is two, since the provider is asked in between.
Operations that run together may interleave their steps in any order, and whatever they answer must be what one of the
orders gives. One whose answer was lost may have happened before it is asked again.
"""

import copy
import itertools

PENDING, ACCEPTED, IN_PROGRESS, COMPLETED, CANCELLED = "PENDING", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED"
HELD, RELEASED, REFUNDED, DISPUTED = "HELD", "RELEASED", "REFUNDED", "DISPUTED"
MOVES = {(ACCEPTED, PENDING): {"helper"}, (ACCEPTED, IN_PROGRESS): {"helper", "seeker"}, (ACCEPTED, CANCELLED): {"seeker"},
         (PENDING, CANCELLED): {"seeker"}, (IN_PROGRESS, COMPLETED): {"helper", "seeker"},
         (IN_PROGRESS, CANCELLED): {"helper", "seeker"}}


def fee_of(satang, rate=500):
    return (satang * rate + 5000) // 10000


class Payment:
    def __init__(self, key, payer, payee, amount):
        self.key, self.payer, self.payee, self.amount = key, payer, payee, amount
        self.status, self.part, self.armed, self.id = PENDING, None, False, None

    def facts(self):
        return self.key, self.status, self.payee, self.amount, self.part, self.armed and self.status == HELD


class Gig:
    def __init__(self, number, seeker, budget):
        self.number, self.seeker, self.budget = number, seeker, budget
        self.status, self.helper, self.payments, self.id = PENDING, None, [], None

    def facts(self):
        return self.status, self.helper, tuple(each.facts() for each in self.payments if each.status != "FAILED")

    def live(self):
        return next((each for each in self.payments if each.status in (PENDING, HELD, DISPUTED)), None)

    def by_key(self, key):
        return next((each for each in reversed(self.payments) if each.key == key and each.status != "FAILED"), None)

    # ---- steps: each gives (status, code) or None for "goes on" ------------------------------------------------------

    def move(self, who, to, reason="so"):
        side = "seeker" if who == self.seeker else "helper" if who == self.helper else "stranger"
        if to == ACCEPTED:
            if side == "seeker":
                return 409, "own_gig"
            if self.status != PENDING:
                return 409, "gig_not_open" if self.status == CANCELLED else "gig_already_taken"
            self.status, self.helper = ACCEPTED, who
            return 200, None
        if side == "stranger":
            return 403, "forbidden"
        if side not in MOVES.get((self.status, to), ()):
            return 409, "invalid_transition"
        if (self.status, to) == (IN_PROGRESS, CANCELLED) and not reason:
            return 422, "validation_failed"
        paid = self.live()
        if paid and to in (PENDING, CANCELLED) and paid.status != DISPUTED:
            paid.status = REFUNDED if paid.status == HELD else "FAILED"
        elif paid and to == COMPLETED and paid.status == HELD:
            paid.armed = True
        self.status, self.helper = to, None if to == PENDING else self.helper
        return 200, None

    def cancel(self, who):
        """By DELETE, which is the seeker's alone and gives no reason."""
        return self.move(who, CANCELLED, None) if who == self.seeker else (403, "forbidden")

    def open(self, who, key):
        if who != self.seeker:
            return 403, "forbidden"
        if self.by_key(key):
            return None
        if self.status not in (ACCEPTED, IN_PROGRESS):
            return 409, "gig_not_payable"
        if self.live():
            return 409, "escrow_exists"
        self.payments.append(Payment(key, who, self.helper, self.budget))
        return None

    def settle(self, key, declined):
        paid = self.by_key(key)
        if paid and paid.status == PENDING:
            paid.status = "FAILED" if declined else HELD
            paid.armed = not declined and self.status == COMPLETED
        if declined:
            return 402, "payment_declined"
        return (201, None) if paid else (409, "gig_not_payable")

    def end(self, what, who, key, part=None):
        """release, refund, dispute and split by a person, the last and the refund by an administrator."""
        if what in ("refund", "split") and who != "admin":
            return 403, "forbidden"
        paid = self.by_key(key)
        sides = [paid.payer, paid.payee] if paid else []
        if not paid or paid.status == PENDING or (who not in (*sides, "admin") and what in ("release", "dispute")):
            return 404, "not_found"
        if who not in {"release": sides[:1], "dispute": sides}.get(what, [who]):
            return 403, "forbidden"
        if what in ("release", "refund") and paid.status == {"release": RELEASED, "refund": REFUNDED}[what] and paid.part is None:
            return 200, None
        open_states = {"refund": (HELD, DISPUTED), "split": (DISPUTED,)}.get(what, (HELD,))
        if paid.status not in open_states:
            return 409, "payment_not_open"
        if what == "release" and self.status != COMPLETED:
            return 409, "gig_not_completed"
        paid.status = {"release": RELEASED, "refund": REFUNDED, "dispute": DISPUTED}.get(what, RELEASED if part else REFUNDED)
        paid.part = part if what == "split" else None
        return 200, None

    def clock(self, key):
        paid = self.by_key(key)
        if paid and paid.armed:
            paid.armed = False
            if paid.status == HELD:
                paid.status = RELEASED
        return None


def interleavings(left):
    """Every order of so many steps of each operation, which keeps each one's own."""
    if not any(left):
        yield ()
    for n, count in enumerate(left):
        if count:
            for rest in interleavings([c - (i == n) for i, c in enumerate(left)]):
                yield (n, *rest)


def outcomes(gig, operations):
    """Every state that the operations may leave the gig in, with what each of them answers: [(gig, answers)].
    `operations`: lists of the forms it may have taken, each a list of (method, arguments)."""
    found = {}
    for forms in itertools.product(*operations):
        for order in interleavings([len(steps) for steps in forms]):
            after, answers, places = copy.deepcopy(gig), [None] * len(forms), [0] * len(forms)
            for n in order:
                name, *arguments = forms[n][places[n]]
                places[n] += 1
                # What refuses to open asks no provider; a try that is repeated begins anew.
                if name == "settle" and answers[n] is not None:
                    continue
                answers[n] = getattr(after, name)(*arguments)
            found[after.facts(), tuple(answers)] = after, answers
    return list(found.values())


def balances(gigs):
    """{(kind, owner): satang} of all accounts that hold something; BANK and FEES are one each."""
    held = {}

    def add(kind, owner, satang):
        held[kind, owner] = held.get((kind, owner), 0) + satang

    for paid in (each for gig in gigs for each in gig.payments):
        part = {RELEASED: paid.amount, REFUNDED: 0}.get(paid.status) if paid.part is None else paid.part
        if paid.status in (HELD, DISPUTED):
            add("ESCROW", paid.payer, paid.amount)
            add("BANK", "", -paid.amount)
        elif part:
            add("WALLET", paid.payee, part - fee_of(part))
            add("FEES", "", fee_of(part))
            add("BANK", "", -part)
    return {account: satang for account, satang in held.items() if satang}

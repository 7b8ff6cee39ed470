"""The life of a gig and of the money held for it, as the contract has it: who may do what, and what comes of it. A model
that random sequences of requests are held against; it knows nothing of the server.
"""



class Life:
    def __init__(self):
        self.gig, self.helper = "PENDING", None
        self.money, self.payee, self.is_split = None, None, False

    def is_side(self, who):
        return who in ("seeker", self.helper)

    def give_back(self):
        """What is disputed waits for an administrator, whatever becomes of the gig."""
        if self.money == "HELD":
            self.money = "REFUNDED"

    def accept(self, who):
        if who in ("seeker", "nobody") or self.gig != "PENDING":
            return False
        self.gig, self.helper = "ACCEPTED", who
        return True

    def withdraw(self, who):
        if who != self.helper or self.gig != "ACCEPTED":
            return False
        self.gig, self.helper = "PENDING", None
        self.give_back()
        return True

    def set_status(self, who, status, reason):
        if status == "ACCEPTED":
            return self.accept(who)
        if status == "PENDING":
            return self.withdraw(who)
        step = self.gig, status
        by_seeker = step in {("PENDING", "CANCELLED"), ("ACCEPTED", "CANCELLED")} and who == "seeker"
        by_both = step in {("ACCEPTED", "IN_PROGRESS"), ("IN_PROGRESS", "COMPLETED"), ("IN_PROGRESS", "CANCELLED")} and self.is_side(who)
        if not (by_seeker or by_both) or (step == ("IN_PROGRESS", "CANCELLED") and not reason):
            return False
        self.gig = status
        if status == "CANCELLED":
            self.give_back()
        return True

    def cancel(self, who):
        """By DELETE, which gives no reason."""
        return self.set_status(who, "CANCELLED", None)

    def hold(self, who):
        if who != "seeker" or self.gig not in ("ACCEPTED", "IN_PROGRESS") or self.money in ("HELD", "DISPUTED"):
            return False
        self.money, self.payee, self.is_split = "HELD", self.helper, False
        return True

    def release(self, who):
        """Again on what is released: the same answer, and nothing moves. So for a refund."""
        if who == "seeker" and self.money == "RELEASED" and not self.is_split:
            return True
        if who != "seeker" or self.gig != "COMPLETED" or self.money != "HELD":
            return False
        self.money = "RELEASED"
        return True

    def refund(self, who):
        if who == "admin" and self.money == "REFUNDED" and not self.is_split:
            return True
        if who != "admin" or self.money not in ("HELD", "DISPUTED"):
            return False
        self.money = "REFUNDED"
        return True

    def dispute(self, who):
        if who not in ("seeker", self.payee) or self.money != "HELD":
            return False
        self.money = "DISPUTED"
        return True

    def split(self, who, payee_amount):
        if who != "admin" or self.money != "DISPUTED":
            return False
        self.money, self.is_split = "RELEASED" if payee_amount else "REFUNDED", True
        return True

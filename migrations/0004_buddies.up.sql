-- Buddies: whom somebody wants to find again. And who wants nothing to do with whom.

CREATE TABLE buddies (
  owner_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  buddy_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  notes       text,
  created_at  timestamptz NOT NULL DEFAULT now(),
  version     bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (owner_id, buddy_id),
  CONSTRAINT buddies_self CHECK (owner_id <> buddy_id)
);
COMMENT ON TABLE buddies IS 'private to owner_id: nobody is told whose buddy they are';
CREATE INDEX buddies_newest ON buddies (owner_id, created_at, buddy_id);
CREATE INDEX buddies_of_buddy ON buddies (buddy_id);

-- One row says enough for both sides: neither meets the other.
CREATE TABLE blocks (
  blocker_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  blocked_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (blocker_id, blocked_id),
  CONSTRAINT blocks_self CHECK (blocker_id <> blocked_id)
);
CREATE INDEX blocks_of_blocked ON blocks (blocked_id, blocker_id);

-- How often two people did a gig together, for a whole page of people at once.
CREATE INDEX gigs_completed_pair ON gigs (seeker_id, helper_id) WHERE status = 'COMPLETED';

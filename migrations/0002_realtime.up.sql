-- The outbox: what other connections and other servers must hear of, written in the transaction that did it.
-- Every server reads it in the order of commit: see src/realtime/feed.hpp.

CREATE TABLE outbox (
  id           bigint GENERATED ALWAYS AS IDENTITY,
  transaction  xid8 NOT NULL DEFAULT pg_current_xact_id(),
  kind         text NOT NULL,
  topic        uuid NOT NULL,
  number       bigint NOT NULL DEFAULT 0,
  note         text NOT NULL DEFAULT '',
  at           timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (transaction, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON COLUMN outbox.transaction IS 'who is visible in which snapshot is decided by this, not by the id';
COMMENT ON COLUMN outbox.topic IS 'what it is about: a room, a gig, a session';
COMMENT ON COLUMN outbox.number IS 'which of the topic: a message''s seq, a gig''s version';

-- One use each, 30 seconds: what a browser puts into the address of its socket instead of a token.
CREATE TABLE socket_tickets (
  hash        bytea PRIMARY KEY,
  user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  session_id  uuid NOT NULL,
  token_ends  timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL
);
CREATE INDEX socket_tickets_expiry ON socket_tickets (expires_at);
COMMENT ON COLUMN socket_tickets.hash IS 'SHA-256 of the ticket, which is stored nowhere';
COMMENT ON COLUMN socket_tickets.token_ends IS 'when the access token that it was bought with ends';

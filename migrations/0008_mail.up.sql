-- Mail that is to be sent, and what the token in each is good for. Tokens are computed from the row under a key of the
-- server's and never stored: nobody who reads this table can make one.
CREATE TABLE mails (
  id          uuid PRIMARY KEY,
  user_id     uuid REFERENCES users ON DELETE CASCADE,
  purpose     text NOT NULL CHECK (purpose IN ('VERIFY_EMAIL', 'PASSWORD_RESET')),
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz,
  due_at      timestamptz NOT NULL DEFAULT now(),
  attempts    integer NOT NULL DEFAULT 0,
  sent_at     timestamptz,
  refused_at  timestamptz
);
COMMENT ON COLUMN mails.user_id IS 'null: nobody has the address that was asked for; the row is there to cost the same';
CREATE INDEX mails_due ON mails (due_at) WHERE sent_at IS NULL AND refused_at IS NULL AND user_id IS NOT NULL;
CREATE INDEX mails_of_user ON mails (user_id, purpose, created_at);
CREATE INDEX mails_expiry ON mails (expires_at);

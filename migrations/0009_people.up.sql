-- People: reports for administrators, and accounts that are gone for good.

-- Whoever is deleted stays out everywhere that a suspended person does.
ALTER TABLE users
  ADD COLUMN deleted_at timestamptz,
  ADD CONSTRAINT users_deleted_stay_out CHECK (deleted_at IS NULL OR suspended_at IS NOT NULL);
COMMENT ON COLUMN users.deleted_at IS 'the row stays, without anything personal, for what refers to it';

CREATE TABLE reports (
  id           uuid PRIMARY KEY,
  reporter_id  uuid NOT NULL REFERENCES users,
  kind         text NOT NULL CHECK (kind IN ('USER', 'GIG', 'MESSAGE')),
  target_id    uuid NOT NULL,
  reported_id  uuid REFERENCES users,
  reason       text NOT NULL,
  comment      text,
  content      jsonb NOT NULL,
  status       text NOT NULL DEFAULT 'OPEN' CHECK (status IN ('OPEN', 'DISMISSED', 'ACTION_TAKEN')),
  note         text,
  created_at   timestamptz NOT NULL DEFAULT statement_timestamp(),
  resolved_at  timestamptz,
  resolved_by  uuid REFERENCES users,
  CONSTRAINT reports_resolved CHECK ((status = 'OPEN') = (resolved_at IS NULL) AND (status = 'OPEN') = (resolved_by IS NULL))
);
COMMENT ON COLUMN reports.reported_id IS 'whose it is: the person, the seeker, the sender; null for a SYSTEM message';
COMMENT ON COLUMN reports.content IS 'what was reported as it was then: it may be changed or gone when somebody looks';
CREATE UNIQUE INDEX reports_open_once ON reports (reporter_id, kind, target_id) WHERE status = 'OPEN';
CREATE INDEX reports_of_status ON reports (status, id);
CREATE INDEX reports_of_reporter ON reports (reporter_id, id);
CREATE INDEX reports_of_reported ON reports (reported_id, id);

CREATE INDEX audit_log_of_admin ON audit_log (admin_id, id);
CREATE INDEX users_admins ON users (id) WHERE role = 'ADMIN';

-- A time as it stands in JSON everywhere: for statements that make JSON themselves.
CREATE FUNCTION wire_time(at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

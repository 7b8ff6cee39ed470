-- name: jobs.due
-- Timers whose time has come, by the database's clock, of the kinds that this server knows: those of a newer one on the
-- same database must not stand in the way.
SELECT kind, subject_id FROM timers WHERE due_at <= now() AND kind = ANY (:kinds) ORDER BY due_at LIMIT 100

-- name: jobs.take
-- Deleting is taking: the row goes in the transaction that does the work, and of several servers one gets it.
DELETE FROM timers WHERE (kind, subject_id) IN (
  SELECT kind, subject_id FROM timers WHERE kind = :kind AND subject_id = :subject_id AND due_at <= now()
  FOR UPDATE SKIP LOCKED)

-- name: jobs.postpone
-- A timer whose work failed comes back later, ever later, and stands in nobody's way meanwhile.
UPDATE timers SET attempts = attempts + 1, due_at = now() + make_interval(secs => least(3600, 2 ^ least(attempts, 11)))
WHERE kind = :kind AND subject_id = :subject_id AND due_at <= now()

-- name: jobs.backlog
-- What waits, for the metrics: timers whose time has come, how late the first of them is, and how old the outbox is, of
-- which nothing older than five minutes should be left.
SELECT (SELECT count(*) FROM timers WHERE due_at <= now()) AS overdue,
  coalesce((SELECT (extract(epoch FROM now() - min(due_at)) * 1000000)::bigint FROM timers WHERE due_at <= now()), 0)
    AS late_us,
  coalesce((SELECT greatest(0, extract(epoch FROM now() - o.at) * 1000000)::bigint
            FROM (SELECT at FROM outbox ORDER BY transaction, id LIMIT 1) o), 0) AS outbox_us

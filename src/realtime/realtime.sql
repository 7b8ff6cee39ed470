-- name: realtime.now
-- Where a server that starts, or that was away for too long, begins to read.
SELECT pg_current_snapshot()::text AS snapshot, pg_backend_pid()::bigint AS backend,
  coalesce((SELECT max(id) FROM outbox), 0) AS last_id

-- name: realtime.drop_strangers
-- Rows of transactions that this database has not had yet came with a dump of another one: they would be new at every
-- look until it has counted as far.
DELETE FROM outbox WHERE transaction >= pg_snapshot_xmax(pg_current_snapshot())

-- name: realtime.tail
-- What became visible after the snapshot `previous`: rows of transactions that began after it, and rows of those that
-- were open in it. Neither order of ids nor order of transaction numbers is order of commit; being visible is. Further
-- pages of a long catch-up name the first page's snapshot in `upto`, so that they show what it saw and no more.
-- A server that crashed gives transaction numbers again that ended without being stored, and the old snapshot calls
-- those ended. So a backend that was not met before looks below the snapshot too, for ids past all that were given:
-- ids are not given again as long as a row bears them.
-- The plan is often made while the table is empty and kept while it grows: the inner ORDER BY leaves the primary key as
-- the only way to it, since the server's connections avoid sorting.
WITH seen AS MATERIALIZED (
  SELECT :previous::text::pg_snapshot AS previous, pg_current_snapshot() AS current,
         nullif(:upto::text, '')::pg_snapshot AS upto),
fresh AS (
  SELECT o.* FROM seen CROSS JOIN LATERAL (
    SELECT * FROM outbox WHERE transaction >= pg_snapshot_xmax(seen.previous) ORDER BY transaction, id OFFSET 0) o
  UNION ALL
  SELECT o.* FROM seen CROSS JOIN LATERAL pg_snapshot_xip(seen.previous) AS open (transaction) CROSS JOIN LATERAL (
    SELECT * FROM outbox WHERE transaction = open.transaction ORDER BY id OFFSET 0) o
  UNION ALL
  SELECT o.* FROM seen, outbox o
  WHERE pg_backend_pid() <> ALL (:backends::bigint[]) AND o.id > :given
    AND o.transaction < pg_snapshot_xmax(seen.previous)
    AND NOT EXISTS (SELECT FROM pg_snapshot_xip(seen.previous) AS open (transaction)
                    WHERE open.transaction = o.transaction))
SELECT seen.current::text AS snapshot, pg_backend_pid()::bigint AS backend, f.id, f.kind, f.topic, f.number, f.note
FROM seen LEFT JOIN fresh f ON f.id > :after_id AND (seen.upto IS NULL OR pg_visible_in_snapshot(f.transaction, seen.upto))
ORDER BY f.id LIMIT :page

-- name: realtime.purge
-- Oldest first by the primary key. What a server has not read after five minutes it does not read any more: it sends
-- its connections away to resume from the rows themselves.
DELETE FROM outbox WHERE (transaction, id) IN (SELECT transaction, id FROM outbox ORDER BY transaction, id LIMIT 5000)
  AND at < now() - interval '5 minutes'

-- name: realtime.notify
-- What a server says to all. A statement alone, so that it commits at once: within a business transaction NOTIFY would
-- have commits wait for each other.
SELECT true AS said FROM pg_notify('hourz_bus', :text)

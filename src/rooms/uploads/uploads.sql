-- fragment: shown
  u.id, u.category, u.content_type, u.width, u.height, u.size, u.created_at

-- fragment: unused
  u.unused_since IS NOT NULL AND NOT EXISTS (SELECT 1 FROM upload_uses x WHERE x.upload_id = u.id)

-- name: uploads.sums
-- Before a byte is read: whoever has no room left is told at once.
SELECT files, bytes FROM upload_sums WHERE user_id = :user_id

-- name: uploads.add
-- The sums' row is where uploads of one person take turns, so what fits is decided once for each. No row: it does not, or
-- the account was suspended or deleted while the picture was made: its lock is taken first, as whoever deletes one does.
WITH owner AS (SELECT id FROM users WHERE id = :owner_id AND suspended_at IS NULL FOR KEY SHARE),
fits AS (
  INSERT INTO upload_sums AS s (user_id, files, bytes)
  SELECT id, 1, :size::bigint + :thumbnail_size::bigint FROM owner
  ON CONFLICT (user_id) DO UPDATE SET files = s.files + 1, bytes = s.bytes + excluded.bytes
  WHERE s.files < :most_files AND s.bytes + excluded.bytes <= :most_bytes
  RETURNING user_id),
u AS (
  INSERT INTO uploads (id, owner_id, category, content_type, width, height, size, thumbnail_size, sha256)
  SELECT :id, user_id, :category, :content_type, :width, :height, :size, :thumbnail_size, :sha256 FROM fits
  RETURNING *)
SELECT @shown@ FROM u

-- name: uploads.mine
-- The caller's own, newest first: ids begin with the time.
SELECT @shown@ FROM uploads u
WHERE u.owner_id = :owner_id AND u.id < :before_id AND (:category::text IS NULL OR u.category = :category)
ORDER BY u.id DESC LIMIT :page

-- name: uploads.remove
-- Only what nothing refers to: the time is looked at again once the row's lock is had, and a reference just made sets it.
WITH gone AS (DELETE FROM uploads u WHERE u.id = :id AND u.owner_id = :owner_id AND @unused@
              RETURNING u.id, u.owner_id, u.size + u.thumbnail_size AS bytes),
left_over AS (INSERT INTO removed_files (upload_id) SELECT id FROM gone ON CONFLICT DO NOTHING)
UPDATE upload_sums s SET files = s.files - 1, bytes = s.bytes - gone.bytes FROM gone WHERE s.user_id = gone.owner_id

-- name: uploads.is_owned
-- Why nothing was removed.
SELECT EXISTS (SELECT 1 FROM uploads WHERE id = :id AND owner_id = :owner_id)

-- name: uploads.file
-- All that is needed to serve one.
SELECT u.owner_id, u.category, u.content_type, u.size, u.thumbnail_size, u.sha256,
       ARRAY (SELECT x.subject_id FROM upload_uses x WHERE x.upload_id = u.id) AS subjects
FROM uploads u WHERE u.id = :id

-- name: uploads.use
-- Takes those of the owner's uploads that are of the kind; which they were.
WITH taken AS (
  UPDATE uploads SET unused_since = NULL WHERE id = ANY (:ids) AND owner_id = :owner_id AND category = :category
  RETURNING id),
uses AS (INSERT INTO upload_uses (upload_id, subject_id) SELECT id, :subject_id FROM taken ON CONFLICT DO NOTHING)
SELECT id FROM taken

-- name: uploads.release
-- What a subject referred to and does so no more begins to wait for being collected, unless others refer to it.
WITH gone AS (DELETE FROM upload_uses WHERE subject_id = :subject_id AND NOT upload_id = ANY (:kept) RETURNING upload_id)
UPDATE uploads u SET unused_since = now() FROM gone
WHERE u.id = gone.upload_id
  AND NOT EXISTS (SELECT 1 FROM upload_uses x WHERE x.upload_id = u.id AND x.subject_id <> :subject_id)

-- name: uploads.mend
-- Two that let go of one upload at the same moment each saw the other: found here.
UPDATE uploads u SET unused_since = now()
WHERE u.unused_since IS NULL AND NOT EXISTS (SELECT 1 FROM upload_uses x WHERE x.upload_id = u.id)

-- name: uploads.collect
-- What nothing has referred to for a day, a bite at a time; several servers take different ones.
WITH gone AS (
  DELETE FROM uploads WHERE id IN (
    SELECT u.id FROM uploads u WHERE u.unused_since < now() - interval '24 hours' AND @unused@
    LIMIT 100 FOR UPDATE OF u SKIP LOCKED)
  RETURNING id, owner_id, size + thumbnail_size AS bytes),
left_over AS (INSERT INTO removed_files (upload_id) SELECT id FROM gone ON CONFLICT DO NOTHING),
back AS (
  UPDATE upload_sums s SET files = s.files - g.files, bytes = s.bytes - g.bytes
  FROM (SELECT owner_id, count(*) AS files, sum(bytes)::bigint AS bytes FROM gone GROUP BY owner_id) g
  WHERE s.user_id = g.owner_id)
SELECT id FROM gone

-- name: uploads.removable
-- Whose files are to be removed: none while a backup runs, which holds this lock, shared, since before its snapshot. The
-- rows seen here were committed before the lock was asked for, so a backup that gets it later has their uploads no more:
-- to have had it for this statement is enough.
SELECT upload_id FROM removed_files r
WHERE (SELECT pg_try_advisory_xact_lock(:backup_lock::bigint))
  AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.id = r.upload_id) LIMIT 50

-- name: uploads.leave_over
-- Files that no row is for.
INSERT INTO removed_files (upload_id)
SELECT id FROM unnest(:ids) AS lone (id) WHERE NOT EXISTS (SELECT 1 FROM uploads u WHERE u.id = lone.id)
ON CONFLICT DO NOTHING

-- name: uploads.files_removed
-- Nothing of them is left.
DELETE FROM removed_files WHERE upload_id = ANY (:ids)

-- name: uploads.known
-- Which of these files have a row, or wait to be removed.
SELECT id FROM uploads WHERE id = ANY (:ids)
UNION ALL SELECT upload_id FROM removed_files WHERE upload_id = ANY (:ids)

-- name: uploads.some
-- A page of all rows that are older than what may be under way, to be held against the files.
SELECT u.id, u.owner_id, NOT (@unused@) AS in_use FROM uploads u
WHERE u.id > :after AND u.created_at < :made_before ORDER BY u.id LIMIT 1000

-- name: uploads.check
-- A page of all rows, with what their files must be.
SELECT u.id, u.size, u.thumbnail_size, u.sha256 FROM uploads u WHERE u.id > :after ORDER BY u.id LIMIT 1000

-- name: uploads.export_files
-- What is known of somebody's pictures; the pictures themselves are at their addresses.
SELECT u.id::text AS key, json_build_object(
  'id', u.id, 'category', u.category, 'content_type', u.content_type, 'width', u.width, 'height', u.height,
  'size', u.size, 'sha256', u.sha256, 'created_at', wire_time(u.created_at))::text AS item
FROM uploads u WHERE u.owner_id = :user AND (:after = '' OR u.id > nullif(:after, '')::uuid) ORDER BY u.id LIMIT :page

-- name: uploads.erase
-- All that somebody keeps here, and what showed it, while users.hold_account holds the account.
WITH gone AS (DELETE FROM uploads WHERE owner_id = :owner_id RETURNING id)
INSERT INTO removed_files (upload_id) SELECT id FROM gone ON CONFLICT DO NOTHING

-- name: uploads.erase_sums
-- After the uploads: everybody locks these rows in this order.
DELETE FROM upload_sums WHERE user_id = :owner_id

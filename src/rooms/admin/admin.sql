-- fragment: report
  r.id, r.kind, r.target_id, r.reporter_id, r.reported_id, r.reason, r.comment, r.content::text AS content, r.status,
  r.note, r.created_at, r.resolved_at, r.resolved_by

-- name: admin.report
-- With the copy of what was reported. Two at once of the same thing by the same person meet in reports_open_once.
INSERT INTO reports AS r (id, reporter_id, kind, target_id, reported_id, reason, comment, content)
VALUES (:id, :reporter_id, :kind, :target_id, :reported_id, :reason, :comment, :content::text::jsonb)
RETURNING @report@

-- name: admin.reports
-- The newest first: ids are in order of time.
SELECT @report@ FROM reports r
WHERE (:status::text IS NULL OR r.status = :status) AND r.id < :before_id ORDER BY r.id DESC LIMIT :page

-- name: admin.report_by_id
-- One of them.
SELECT @report@ FROM reports r WHERE r.id = :id

-- name: admin.lock_report
-- Of two who resolve it at once the second finds it resolved.
SELECT @report@ FROM reports r WHERE r.id = :id FOR UPDATE

-- name: admin.resolve
-- A report that admin.lock_report holds, and the act in the audit log.
WITH r AS (
  UPDATE reports SET status = :resolution, note = :note, resolved_at = statement_timestamp(), resolved_by = :admin_id
  WHERE id = :id RETURNING *),
audit AS (INSERT INTO audit_log (id, admin_id, action, subject_id, details)
          SELECT :audit_id, :admin_id, 'report.resolve', r.id, jsonb_build_object('resolution', r.status, 'note', r.note)
          FROM r)
SELECT @report@ FROM r

-- name: admin.audit_log
-- The newest first, all of them or by who did it or whom it was done to.
SELECT a.id, a.admin_id, a.action, a.subject_id, a.details::text AS details, a.at FROM audit_log a
WHERE (:admin_id::uuid IS NULL OR a.admin_id = :admin_id) AND (:subject_id::uuid IS NULL OR a.subject_id = :subject_id)
  AND (:action::text IS NULL OR a.action = :action) AND a.id < :before_id
ORDER BY a.id DESC LIMIT :page

-- name: admin.export_reports
-- Those that somebody made; who reported them is told to nobody.
SELECT id::text AS key, json_build_object(
  'id', id, 'kind', kind, 'target_id', target_id, 'reason', reason, 'comment', comment, 'status', status,
  'created_at', wire_time(created_at))::text AS item
FROM reports WHERE reporter_id = :user AND (:after = '' OR id > nullif(:after, '')::uuid) ORDER BY id LIMIT :page

-- name: admin.export_audit_log
-- What was done to somebody's account, and by them as an administrator; not by whom, nor for what reason, which is for
-- administrators alone.
SELECT id::text AS key, json_build_object(
  'id', id, 'action', action, 'subject_id', subject_id,
  'details', CASE WHEN admin_id = :user THEN details ELSE details - 'reason' END,
  'by_me', admin_id IS NOT DISTINCT FROM :user, 'at', wire_time(at))::text AS item
FROM audit_log WHERE (admin_id = :user OR subject_id = :user) AND (:after = '' OR id > nullif(:after, '')::uuid)
ORDER BY id LIMIT :page

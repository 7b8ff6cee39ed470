-- The act is kept, as one's own: the schema before this one has no other way to say it.
COMMENT ON COLUMN audit_log.admin_id IS NULL;
UPDATE audit_log SET admin_id = subject_id, details = details || '{"by": "hourz admin"}' WHERE admin_id IS NULL;
ALTER TABLE audit_log ALTER COLUMN admin_id SET NOT NULL;

DROP FUNCTION wire_time;
DROP INDEX users_admins;
DROP INDEX audit_log_of_admin;
DROP TABLE reports;
ALTER TABLE users DROP COLUMN deleted_at;

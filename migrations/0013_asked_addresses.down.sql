DELETE FROM mails WHERE asked_for IS NOT NULL;
DROP INDEX mails_asked;
ALTER TABLE mails DROP COLUMN asked_for;
COMMENT ON COLUMN mails.user_id IS 'null: nobody has the address that was asked for; the row is there to cost the same';

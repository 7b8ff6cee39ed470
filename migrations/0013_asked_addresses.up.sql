-- Whoever forgot a password asks by an address: it is kept as it was asked for, and looked up when the mail is sent, so
-- that asking does the very same whether or not somebody has it.
ALTER TABLE mails ADD COLUMN asked_for text;
COMMENT ON COLUMN mails.asked_for IS 'not looked up yet; empty a moment later, whether or not somebody has it';
COMMENT ON COLUMN mails.user_id IS 'null: not looked up yet, or nobody has the address that was asked for';
CREATE INDEX mails_asked ON mails (asked_for) WHERE asked_for IS NOT NULL;

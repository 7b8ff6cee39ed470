-- fragment: session
  s.id, s.user_agent, s.ip, s.created_at, s.last_used_at, s.expires_at

-- name: auth.open_session
-- A new session holds refresh token number 1, if the password that was verified is still the one: FOR SHARE waits for a
-- change under way and then sees it. The oldest past the hundredth of a user end, so that a client that logs in for ever
-- does not fill the table; logins at once skip what another is ending already, or each would wait for all before it.
WITH surplus AS (
  UPDATE sessions SET ended_at = now(), end_reason = 'too_many'
  WHERE id IN (SELECT id FROM sessions WHERE ended_at IS NULL AND id IN
                 (SELECT id FROM sessions WHERE user_id = :user_id AND ended_at IS NULL ORDER BY id DESC OFFSET 99)
               FOR UPDATE SKIP LOCKED)
  RETURNING id),
told AS (INSERT INTO outbox (kind, topic) SELECT 'session.ended', id FROM surplus)
INSERT INTO sessions (id, user_id, user_agent, ip, expires_at)
SELECT :id, id, :user_agent, :ip, now() + make_interval(secs => :lasts_s) FROM users
WHERE id = :user_id AND password_hash = :verified AND suspended_at IS NULL FOR SHARE

-- name: auth.check_session
-- What every request asks (cached for a second): is the session alive, and what may its user do.
SELECT u.role, u.suspended_at IS NOT NULL AS suspended
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = :session_id AND s.user_id = :user_id AND s.ended_at IS NULL AND s.expires_at > now()

-- name: auth.lock_session
-- Refreshing takes turns, so that of twenty at once each sees what the one before it did.
SELECT s.user_id, s.counter, u.is_profile_setup, u.suspended_at IS NOT NULL AS suspended
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = :session_id AND s.ended_at IS NULL AND s.expires_at > now()
FOR UPDATE OF s

-- name: auth.advance_session
-- The current refresh token was presented: its successor's number is stored, never the token.
UPDATE sessions SET counter = counter + 1, last_used_at = now(), expires_at = now() + make_interval(secs => :lasts_s),
  ip = :ip
WHERE id = :session_id

-- name: auth.end_session
-- Of this user alone; ending what has ended changes nothing. Open sockets hear of it by the outbox.
WITH ended AS (
  UPDATE sessions SET ended_at = now(), end_reason = :reason
  WHERE id = :session_id AND user_id = :user_id AND ended_at IS NULL RETURNING id)
INSERT INTO outbox (kind, topic) SELECT 'session.ended', id FROM ended

-- name: auth.end_others
-- All sessions of the user but this one.
WITH ended AS (
  UPDATE sessions SET ended_at = now(), end_reason = :reason
  WHERE user_id = :user_id AND id <> :session_id AND ended_at IS NULL RETURNING id)
INSERT INTO outbox (kind, topic) SELECT 'session.ended', id FROM ended

-- name: auth.end_all
-- Every session of somebody whose account ends or is suspended.
WITH ended AS (
  UPDATE sessions SET ended_at = now(), end_reason = :reason
  WHERE user_id = :user_id AND ended_at IS NULL RETURNING id)
INSERT INTO outbox (kind, topic) SELECT 'session.ended', id FROM ended

-- name: auth.is_fresh
-- Whether the password was given a short while ago.
SELECT created_at > now() - make_interval(mins => 10) AS fresh FROM sessions WHERE id = :session_id

-- name: auth.export_sessions
-- Those that are kept still; the token's counter says nothing to anybody else.
SELECT id::text AS key, json_build_object(
  'id', id, 'device', user_agent, 'ip', ip, 'created_at', wire_time(created_at), 'last_used_at', wire_time(last_used_at),
  'expires_at', wire_time(expires_at), 'ended_at', wire_time(ended_at), 'end_reason', end_reason)::text AS item
FROM sessions WHERE user_id = :user AND (:after = '' OR id > nullif(:after, '')::uuid) ORDER BY id LIMIT :page

-- name: auth.export_mails
-- What was sent to somebody, and when; the tokens in them are stored nowhere.
SELECT id::text AS key, json_build_object(
  'id', id, 'purpose', purpose, 'created_at', wire_time(created_at), 'expires_at', wire_time(expires_at),
  'sent_at', wire_time(sent_at), 'used_at', wire_time(used_at))::text AS item
FROM mails WHERE user_id = :user AND (:after = '' OR id > nullif(:after, '')::uuid) ORDER BY id LIMIT :page

-- name: auth.erase_mails
-- Links that nobody may follow any more, and mails that nobody waits for.
DELETE FROM mails WHERE user_id = :user_id

-- name: auth.erase_sessions
-- Where and with what somebody logged in; the ended rows go with the purge.
UPDATE sessions SET user_agent = NULL, ip = NULL WHERE user_id = :user_id

-- name: auth.erase_tickets
-- Nothing can be opened with them any more.
DELETE FROM socket_tickets WHERE user_id = :user_id

-- name: auth.sessions
-- The user's live sessions, newest first; ids are in order of time.
SELECT @session@, s.id = :session_id AS is_current
FROM sessions s WHERE s.user_id = :user_id AND s.ended_at IS NULL AND s.expires_at > now() AND s.id < :before_id
ORDER BY s.id DESC LIMIT :page

-- name: auth.purge_sessions
-- Sessions are kept for 30 days after their last token's end, for whoever looks into a theft.
DELETE FROM sessions WHERE id IN
  (SELECT id FROM sessions WHERE expires_at < now() - interval '30 days' LIMIT 1000)

-- name: auth.sell_ticket
-- Good for one socket within 30 seconds; only its hash is stored.
INSERT INTO socket_tickets (hash, user_id, session_id, token_ends, expires_at)
VALUES (:hash, :user_id, :session_id, :token_ends, now() + make_interval(secs => :lasts_s))

-- name: auth.redeem_ticket
-- Used up by being read, whether its session is still alive or not.
DELETE FROM socket_tickets WHERE hash = :hash AND expires_at > now() RETURNING user_id, session_id, token_ends

-- name: auth.purge_tickets
-- Those that nobody used.
DELETE FROM socket_tickets WHERE hash IN (SELECT hash FROM socket_tickets WHERE expires_at < now() LIMIT 1000)

-- name: auth.write_reset
-- The same for every address, whether or not somebody has it: auth.look_up_asked finds out.
INSERT INTO mails (id, asked_for, purpose, expires_at)
VALUES (:id, :email, 'PASSWORD_RESET', now() + interval '30 minutes')

-- name: auth.look_up_asked
-- Whose the addresses are that were asked for, a bite at a time. Nothing is sent to nobody, to somebody who is suspended,
-- or past three within a quarter of an hour.
WITH asked AS (
  SELECT id, asked_for, expires_at > now() AND used_at IS NULL AS good
  FROM mails WHERE asked_for IS NOT NULL ORDER BY asked_for, id LIMIT 100 FOR UPDATE),
found AS (
  SELECT a.id, u.id AS user_id, row_number() OVER (PARTITION BY u.id ORDER BY a.id) AS nth
  FROM asked a JOIN users u ON u.email = a.asked_for AND u.suspended_at IS NULL WHERE a.good)
UPDATE mails m SET asked_for = NULL, user_id = (
  SELECT f.user_id FROM found f WHERE f.id = m.id AND f.nth +
    (SELECT count(*) FROM mails s WHERE s.user_id = f.user_id AND s.purpose = 'PASSWORD_RESET'
     AND s.created_at > now() - interval '15 minutes') <= 3)
FROM asked a WHERE m.id = a.id

-- name: auth.write_verification
-- Nothing for an address that is verified, nor past five within an hour.
INSERT INTO mails (id, user_id, purpose, expires_at)
SELECT :id, u.id, 'VERIFY_EMAIL', now() + interval '24 hours' FROM users u
WHERE u.id = :user_id AND NOT u.email_verified AND
      (SELECT count(*) FROM mails m WHERE m.user_id = u.id AND m.purpose = 'VERIFY_EMAIL'
       AND m.created_at > now() - interval '1 hour') < 5

-- name: auth.mail_holder
-- Whom a token that is still good was sent to.
SELECT u.id AS user_id, u.email FROM mails m JOIN users u ON u.id = m.user_id
WHERE m.id = :id AND m.purpose = :purpose AND m.used_at IS NULL AND m.expires_at > now() AND u.suspended_at IS NULL

-- name: auth.use_mail
-- Of several with one token at once, one uses it; the user's others of that purpose end with it, looked up or not.
WITH used AS (
  UPDATE mails SET used_at = now() WHERE id = :id AND purpose = :purpose AND used_at IS NULL AND expires_at > now()
  RETURNING user_id),
others AS (
  UPDATE mails m SET used_at = now() FROM used JOIN users u ON u.id = used.user_id
  WHERE (m.user_id = used.user_id OR m.asked_for = u.email) AND m.purpose = :purpose AND m.id <> :id AND m.used_at IS NULL)
SELECT user_id FROM used

-- name: auth.void_resets
-- A password that was just changed is not changed again by a link that lies in a mailbox.
UPDATE mails SET used_at = now()
WHERE (user_id = :user_id OR asked_for = (SELECT email FROM users WHERE id = :user_id))
  AND purpose = 'PASSWORD_RESET' AND used_at IS NULL

-- name: auth.claim_mail
-- What is to be sent next, and held for five minutes, longer than sending it takes: no other server sends it meanwhile, and
-- one that dies while sending leaves it to be sent again, under the same Message-ID. A name is said to who has shown that
-- the address is theirs: else it could be somebody's words to a stranger.
UPDATE mails m SET attempts = m.attempts + 1, due_at = now() + interval '5 minutes' FROM users u
WHERE u.id = m.user_id AND m.id IN
  (SELECT id FROM mails WHERE sent_at IS NULL AND refused_at IS NULL AND user_id IS NOT NULL AND due_at <= now()
     AND used_at IS NULL AND expires_at > now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING m.id, m.purpose, m.attempts, u.email, CASE WHEN u.email_verified THEN u.name END AS name

-- name: auth.mail_sent
-- The mail server, or the folder, has it.
UPDATE mails SET sent_at = now() WHERE id = :id

-- name: auth.mail_refused
-- By the mail server, for good.
UPDATE mails SET refused_at = now() WHERE id = :id

-- name: auth.mail_failed
-- Tried again after 2, 4, 8 seconds and so on, at last every ten minutes, until its token ends.
UPDATE mails SET due_at = now() + make_interval(secs => least(600, 2 ^ least(attempts, 10))) WHERE id = :id

-- name: auth.mails_waiting
-- For the metrics, along the short indexes of what is not sent and not looked up: what is still to be sent and since when,
-- and what never was before its token ended.
SELECT count(*) FILTER (WHERE expires_at > now()) AS waiting, count(*) FILTER (WHERE expires_at <= now()) AS expired,
  coalesce(greatest(0, extract(epoch FROM now() - min(created_at) FILTER (WHERE expires_at > now())) * 1000000)::bigint, 0)
    AS age_us
FROM (SELECT created_at, expires_at, used_at FROM mails
      WHERE sent_at IS NULL AND refused_at IS NULL AND user_id IS NOT NULL
      UNION ALL SELECT created_at, expires_at, used_at FROM mails WHERE asked_for IS NOT NULL) unsent
WHERE used_at IS NULL

-- name: auth.purge_mails
-- A day after their tokens ended.
DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE expires_at < now() - interval '1 day' LIMIT 1000)

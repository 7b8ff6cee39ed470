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
WHERE id = :user_id AND password_hash = :verified FOR SHARE

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

-- name: http.idempotency_lock
-- Holds the key for this transaction; false while another holds it. A crash lets go of it, so no key is ever stuck.
SELECT pg_try_advisory_xact_lock(hashtextextended(:user_id::text || ':' || :key, 20261123)) AS locked

-- name: http.idempotency_find
-- A statement of its own after the lock, so that it sees what the last holder committed.
SELECT fingerprint, status, headers, body FROM idempotency_keys
WHERE user_id = :user_id AND key = :key AND created_at > now() - interval '24 hours'

-- name: http.idempotency_save
-- In the transaction of the effect. An outlived row of the same key gives way.
INSERT INTO idempotency_keys (user_id, key, fingerprint, status, headers, body)
VALUES (:user_id, :key, :fingerprint, :status, :headers, :body)
ON CONFLICT (user_id, key) DO UPDATE
SET fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers, body = excluded.body,
    created_at = now()
WHERE idempotency_keys.created_at <= now() - interval '24 hours'

-- name: http.idempotency_forget
-- What a deleted account was answered.
DELETE FROM idempotency_keys WHERE user_id = :user_id

-- name: http.idempotency_purge
-- Keys are kept for 24 h; a bounded bite, so that the purge never holds many locks.
DELETE FROM idempotency_keys WHERE (user_id, key) IN
  (SELECT user_id, key FROM idempotency_keys WHERE created_at <= now() - interval '24 hours' LIMIT 1000)

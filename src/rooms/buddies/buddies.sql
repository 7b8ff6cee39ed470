-- fragment: card
  b.buddy_id, b.notes, b.created_at, b.version, u.name, u.photo_url, u.bio, u.is_available, u.is_verified,
  u.reputation_score, u.total_reviews, u.completed_gigs, u.district, u.province, u.created_at AS joined_at

-- fragment: distance
  ST_Distance(u.public_location, me.fixed_location) AS distance_m

-- fragment: people
  JOIN users me ON me.id = b.owner_id JOIN users u ON u.id = b.buddy_id

-- fragment: there
  u.suspended_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM blocks k WHERE k.blocker_id = b.owner_id AND k.blocked_id = b.buddy_id)
  AND NOT EXISTS (SELECT 1 FROM blocks k WHERE k.blocker_id = b.buddy_id AND k.blocked_id = b.owner_id)

-- fragment: point
  ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography

-- name: buddies.turn
-- Who adds a buddy waits here for their own other additions, so that the count of the next statement is the true one.
SELECT id FROM users WHERE id = :owner_id FOR NO KEY UPDATE

-- name: buddies.add
-- In the turn that buddies.turn gave. No row when there is a reason not to: buddies.standing tells which. The time is
-- this statement's, since a transaction that had to wait for its turn began earlier than it counts.
WITH b AS (
  INSERT INTO buddies (owner_id, buddy_id, notes, created_at)
  SELECT :owner_id, u.id, :notes, statement_timestamp() FROM users u
  WHERE u.id = :buddy_id AND u.suspended_at IS NULL
    AND (SELECT count(*) FROM buddies WHERE owner_id = :owner_id) < :most
  ON CONFLICT DO NOTHING RETURNING *)
SELECT @card@, @distance@ FROM b @people@

-- name: buddies.standing
-- Why somebody was not added.
SELECT EXISTS (SELECT 1 FROM users WHERE id = :buddy_id AND suspended_at IS NULL) AS known,
       EXISTS (SELECT 1 FROM buddies WHERE owner_id = :owner_id AND buddy_id = :buddy_id) AS already

-- name: buddies.by_id
-- One of the caller's buddies, by primary keys alone.
SELECT @card@, @distance@ FROM buddies b @people@
WHERE b.owner_id = :owner_id AND b.buddy_id = :buddy_id AND @there@

-- name: buddies.lock
-- Before a change, for If-Match.
SELECT b.version FROM buddies b JOIN users u ON u.id = b.buddy_id
WHERE b.owner_id = :owner_id AND b.buddy_id = :buddy_id AND @there@ FOR UPDATE OF b

-- name: buddies.change
-- A partial body on a row that buddies.lock holds: the flag says whether notes are to be set, since null clears.
WITH b AS (
  UPDATE buddies SET notes = CASE WHEN :set_notes THEN :notes ELSE notes END, version = version + 1
  WHERE owner_id = :owner_id AND buddy_id = :buddy_id RETURNING *)
SELECT @card@, @distance@ FROM b @people@

-- name: buddies.remove
-- Gone for good: the list is a convenience, not a record.
DELETE FROM buddies WHERE owner_id = :owner_id AND buddy_id = :buddy_id

-- name: buddies.newest
-- The caller's buddies, newest first, along buddies_newest.
SELECT @card@, @distance@ FROM buddies b @people@
WHERE b.owner_id = :owner_id AND (b.created_at, b.buddy_id) < (:before, :before_id) AND @there@
ORDER BY b.created_at DESC, b.buddy_id DESC LIMIT :page

-- name: buddies.available
-- Those switched on, nearest first; without an origin newest first. Every one of the caller's buddies is looked at, of
-- whom there are never many, so that no index by distance is needed; OFFSET 0 has each distance computed once. Whoever
-- is switched on has a place.
SELECT @card@, d.distance_m, s.sort_key
FROM buddies b JOIN users u ON u.id = b.buddy_id
CROSS JOIN LATERAL (
  SELECT CASE WHEN :placed THEN ST_Distance(u.public_location, @point@) END AS distance_m OFFSET 0) d
CROSS JOIN LATERAL (
  SELECT coalesce(d.distance_m, -(extract(epoch FROM b.created_at) * 1000000)::double precision) AS sort_key) s
WHERE b.owner_id = :owner_id AND u.is_available AND @there@ AND (s.sort_key, b.buddy_id) > (:after_key, :after_id)
ORDER BY s.sort_key, b.buddy_id LIMIT :page

-- name: buddies.count
-- Only when include_total asks for it.
SELECT count(*) FROM buddies b JOIN users u ON u.id = b.buddy_id
WHERE b.owner_id = :owner_id AND (u.is_available OR NOT :only_available) AND @there@

-- name: buddies.export_list
-- The person's own list; on whose lists they are is told to nobody.
SELECT buddy_id::text AS key,
  json_build_object('buddy_id', buddy_id, 'notes', notes, 'created_at', wire_time(created_at))::text AS item
FROM buddies WHERE owner_id = :user AND (:after = '' OR buddy_id > nullif(:after, '')::uuid) ORDER BY buddy_id LIMIT :page

-- name: buddies.erase
-- Their list, and they from the lists of others.
DELETE FROM buddies WHERE owner_id = :user_id OR buddy_id = :user_id

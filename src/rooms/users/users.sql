-- fragment: own
  u.id, u.email, u.email_verified, u.name, u.photo_url, u.bio, u.phone_number, u.line_id, u.other_contact,
  u.is_available, u.is_verified, u.is_profile_setup, u.reputation_score, u.total_reviews, u.completed_gigs,
  u.fixed_location IS NOT NULL AS has_location,
  ST_Y(u.fixed_location::geometry) AS latitude, ST_X(u.fixed_location::geometry) AS longitude,
  u.address_text, u.district, u.province, u.role, u.created_at, u.updated_at

-- fragment: point
  ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography

-- fragment: shown
  u.id, u.name, u.photo_url, u.bio, u.is_available, u.is_verified, u.reputation_score, u.total_reviews,
  u.completed_gigs, u.district, u.province, u.created_at

-- fragment: unmet
  -- A list, made once a statement and mostly empty. A block counts for both sides.
  u.id <> ALL (ARRAY(SELECT blocked_id FROM blocks WHERE blocker_id = :caller
                     UNION ALL SELECT blocker_id FROM blocks WHERE blocked_id = :caller))

-- name: users.create
-- The unique email is the database's to keep: two registrations at once meet in the index.
WITH u AS (INSERT INTO users (id, email, password_hash, name) VALUES (:id, :email, :password_hash, :name) RETURNING *)
SELECT @own@ FROM u

-- name: users.own
-- The caller as its owner sees it.
SELECT @own@ FROM users u WHERE u.id = :id

-- name: users.shown
-- As others see it; whether contact details may be added is for the gigs room to say.
SELECT @shown@, u.phone_number, u.line_id, u.other_contact FROM users u
WHERE u.id = :id AND u.suspended_at IS NULL AND @unmet@

-- name: users.change
-- A partial body: each field has a flag that says whether it is to be set, since null clears. As all that follow, not
-- once the account is suspended or deleted, however the request got here.
WITH u AS (
  UPDATE users SET
    name = CASE WHEN :set_name THEN :name ELSE name END,
    bio = CASE WHEN :set_bio THEN :bio ELSE bio END,
    phone_number = CASE WHEN :set_phone_number THEN :phone_number ELSE phone_number END,
    line_id = CASE WHEN :set_line_id THEN :line_id ELSE line_id END,
    other_contact = CASE WHEN :set_other THEN :other ELSE other_contact END,
    is_profile_setup = is_profile_setup OR :setup,
    updated_at = now(), version = version + 1
  WHERE id = :id AND suspended_at IS NULL AND NOT (:setup AND is_profile_setup) RETURNING *)
SELECT @own@ FROM u

-- name: users.set_photo
-- The picture that was uploaded last.
UPDATE users SET photo_url = :url, updated_at = now(), version = version + 1 WHERE id = :id AND suspended_at IS NULL

-- name: users.set_location
-- The true point for its owner, the blurred one for everybody else.
WITH u AS (
  UPDATE users SET
    fixed_location = ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography,
    public_location = ST_SetSRID(ST_MakePoint(:public_longitude, :public_latitude), 4326)::geography,
    address_text = :address_text, district = :district, province = :province, postal_code = :postal_code,
    updated_at = now(), version = version + 1
  WHERE id = :id AND suspended_at IS NULL RETURNING *)
SELECT @own@ FROM u

-- name: users.set_available
-- Switching on without a location breaks users_location_required.
WITH u AS (
  UPDATE users SET is_available = :is_available, updated_at = now(), version = version + 1
  WHERE id = :id AND suspended_at IS NULL RETURNING *)
SELECT @own@ FROM u

-- name: users.near
-- Helpers by distance on the sphere, which the index knows; the caller settles the order by true distance.
SELECT @shown@, u.distance_m FROM (
  SELECT u.*, ST_Distance(u.public_location, @point@) AS distance_m
  FROM users u
  WHERE u.public_location IS NOT NULL AND u.id <> :caller AND u.suspended_at IS NULL
    AND ST_DWithin(u.public_location, @point@, :radius_m) AND @unmet@
    AND (ST_Distance(u.public_location, @point@), u.id) > (:after_m, :after_id)
  ORDER BY u.public_location <-> @point@ LIMIT :candidates) u

-- name: users.near_available
-- As users.near, on the smaller index of those switched on.
SELECT @shown@, u.distance_m FROM (
  SELECT u.*, ST_Distance(u.public_location, @point@) AS distance_m
  FROM users u
  WHERE u.is_available AND u.id <> :caller AND u.suspended_at IS NULL
    AND ST_DWithin(u.public_location, @point@, :radius_m) AND @unmet@
    AND (ST_Distance(u.public_location, @point@), u.id) > (:after_m, :after_id)
  ORDER BY u.public_location <-> @point@ LIMIT :candidates) u

-- name: users.near_sorted
-- As both, for a crowd at about one distance, of which they would take ever more: all there are within the radius, in
-- the order of true distance, and one page of them.
SELECT @shown@, u.distance_m FROM (
  SELECT * FROM (
    SELECT u.*, ST_Distance(u.public_location, @point@) AS distance_m
    FROM users u
    WHERE u.public_location IS NOT NULL AND (u.is_available OR NOT :only_available) AND u.id <> :caller
      AND u.suspended_at IS NULL AND ST_DWithin(u.public_location, @point@, :radius_m) AND @unmet@) found
  WHERE (distance_m, id) > (:after_m, :after_id)
  ORDER BY distance_m, id LIMIT :candidates) u
ORDER BY u.distance_m, u.id

-- name: users.count_near
-- Only when include_total asks for it.
SELECT count(*) FROM users u
WHERE u.public_location IS NOT NULL AND (u.is_available OR NOT :only_available) AND u.id <> :caller
  AND u.suspended_at IS NULL AND @unmet@
  AND ST_DWithin(u.public_location, ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography, :radius_m)

-- name: users.count_completed
-- For the gigs room, in the transaction that completes one.
UPDATE users SET completed_gigs = completed_gigs + 1 WHERE id = :id

-- name: users.override_reputation
-- A score by an administrator's word, which holds until one has it recomputed; the audit row of the same statement keeps
-- the one before it.
WITH old AS (SELECT id, reputation_score FROM users WHERE id = :id FOR NO KEY UPDATE),
u AS (UPDATE users SET reputation_score = :score, reputation_override = :score, updated_at = now(),
             version = version + 1
      FROM old WHERE users.id = old.id RETURNING users.*),
audit AS (INSERT INTO audit_log (id, admin_id, action, subject_id, details)
          SELECT :audit_id, :admin_id, 'reputation.set', old.id,
                 jsonb_build_object('from', old.reputation_score, 'to', :score, 'reason', :reason)
          FROM old)
SELECT @own@ FROM u

-- name: users.hold
-- Before a recount: whoever writes a review of this person waits here, so that what is counted next is all there is.
SELECT id FROM users WHERE id = :id FOR NO KEY UPDATE

-- name: users.recount_reputation
-- Sums counted from the reviews while users.hold holds the row: the score is theirs again, and an override is over.
WITH old AS (SELECT id, reputation_score FROM users WHERE id = :id),
u AS (UPDATE users SET rating_sum = :sum, total_reviews = :count, reputation_override = NULL, reputation_score = :score,
             updated_at = now(), version = version + 1
      FROM old WHERE users.id = old.id RETURNING users.*),
audit AS (INSERT INTO audit_log (id, admin_id, action, subject_id, details)
          SELECT :audit_id, :admin_id, 'reputation.set', old.id,
                 jsonb_build_object('from', old.reputation_score, 'to', :score, 'reason', :reason)
          FROM old)
SELECT @own@ FROM u

-- name: users.adjust_ratings
-- For the reviews room, in the transaction of the review: whole numbers are added and taken off, so that nothing is left
-- behind however often. The score is that of score_of() in users.hpp, one division of two whole numbers, so that both
-- give the same bits; an administrator's word holds.
UPDATE users SET rating_sum = rating_sum + :sum, total_reviews = total_reviews + :count,
  reputation_score = coalesce(reputation_override,
    (:prior_sum + rating_sum + :sum)::double precision / (:prior_weight + total_reviews + :count)::double precision)
WHERE id = :id RETURNING reputation_score, total_reviews

-- name: users.hold_some
-- The next bite of all people, each held as by users.hold, always in the order of ids.
SELECT id FROM users WHERE id > :after ORDER BY id LIMIT :page FOR NO KEY UPDATE

-- name: users.set_ratings
-- Sums counted from the reviews, for rows that users.hold_some holds; touches those alone that are not so already.
UPDATE users u SET rating_sum = p.sum, total_reviews = p.count, reputation_score = coalesce(u.reputation_override, p.score)
FROM unnest(:people::uuid[], :sums::bigint[], :counts::bigint[], :scores::double precision[]) AS p (id, sum, count, score)
WHERE u.id = p.id AND (u.rating_sum <> p.sum OR u.total_reviews <> p.count
                       OR u.reputation_score <> coalesce(u.reputation_override, p.score))

-- name: users.account
-- As administrators see it.
SELECT id, email, name, role, suspended_at, deleted_at, created_at FROM users WHERE id = :id

-- name: users.hold_account
-- The strongest lock: it waits for, and holds up, even those who only write something that refers to the row.
SELECT id FROM users WHERE id = :id AND deleted_at IS NULL FOR UPDATE

-- name: users.hold_admins
-- All that there are, in one order, when the one who leaves is among them.
SELECT id FROM users
WHERE role = 'ADMIN' AND suspended_at IS NULL
  AND EXISTS (SELECT 1 FROM users l WHERE l.id = :leaving AND l.role = 'ADMIN' AND l.suspended_at IS NULL)
ORDER BY id FOR UPDATE

-- name: users.suspend
-- On a row that users.hold_account holds, and the act in the audit log.
WITH u AS (
  UPDATE users SET suspended_at = statement_timestamp(), updated_at = statement_timestamp(), version = version + 1
  WHERE id = :id AND suspended_at IS NULL RETURNING id),
audit AS (INSERT INTO audit_log (id, admin_id, action, subject_id, details)
          SELECT :audit_id, :admin_id, 'user.suspend', id, jsonb_build_object('reason', :reason::text) FROM u)
SELECT id FROM u

-- name: users.restore
-- The same back; whoever deleted their account stays out.
WITH u AS (
  UPDATE users SET suspended_at = NULL, updated_at = statement_timestamp(), version = version + 1
  WHERE id = :id AND suspended_at IS NOT NULL AND deleted_at IS NULL RETURNING id),
audit AS (INSERT INTO audit_log (id, admin_id, action, subject_id, details)
          SELECT :audit_id, :admin_id, 'user.restore', id, jsonb_build_object('reason', :reason::text) FROM u)
SELECT id FROM u

-- name: users.export_profile
-- All of the row but what only the service has a use for.
SELECT '1' AS key, json_build_object(
  'id', id, 'email', email, 'email_verified', email_verified, 'role', role, 'name', name, 'photo_url', photo_url,
  'bio', bio, 'phone_number', phone_number, 'line_id', line_id, 'other_contact', other_contact,
  'is_available', is_available, 'is_verified', is_verified, 'is_profile_setup', is_profile_setup,
  'reputation_score', reputation_score, 'reputation_override', reputation_override, 'total_reviews', total_reviews,
  'completed_gigs', completed_gigs, 'latitude', ST_Y(fixed_location::geometry), 'longitude',
  ST_X(fixed_location::geometry), 'public_latitude', ST_Y(public_location::geometry), 'public_longitude',
  ST_X(public_location::geometry), 'address_text', address_text, 'district', district, 'province', province,
  'postal_code', postal_code, 'created_at', wire_time(created_at), 'updated_at', wire_time(updated_at))::text AS item
FROM users WHERE id = :user AND :after < '1' LIMIT :page

-- name: users.export_blocks
-- Those that the person made; who blocked them is told to nobody.
SELECT blocked_id::text AS key,
  json_build_object('blocked_id', blocked_id, 'created_at', wire_time(created_at))::text AS item
FROM blocks WHERE blocker_id = :user AND (:after = '' OR blocked_id > nullif(:after, '')::uuid)
ORDER BY blocked_id LIMIT :page

-- name: users.erase
-- Nothing personal is left in the row, which stays for what refers to it; the email is free again. On a row that
-- users.hold_account holds.
UPDATE users SET email = 'deleted-' || id || '@deleted.invalid', email_verified = false, password_hash = '', role = 'USER',
  name = 'Deleted user', photo_url = NULL, bio = NULL, phone_number = NULL, line_id = NULL, other_contact = NULL,
  is_available = false, is_verified = false, fixed_location = NULL, public_location = NULL, address_text = NULL,
  district = NULL, province = NULL, postal_code = NULL, suspended_at = coalesce(suspended_at, statement_timestamp()),
  deleted_at = statement_timestamp(), updated_at = statement_timestamp(), version = version + 1
WHERE id = :id

-- name: users.erase_blocks
-- There is nobody left to be kept from.
DELETE FROM blocks WHERE blocker_id = :id OR blocked_id = :id

-- name: users.credentials
-- For login: one row whether or not the account may enter, so that all refusals cost alike.
SELECT id, password_hash, is_profile_setup, suspended_at IS NOT NULL AS suspended FROM users WHERE email = :email

-- name: users.password_hash
-- For a change of password.
SELECT password_hash FROM users WHERE id = :id

-- name: users.set_password
-- A new password, or the same one hashed with grown parameters, in place of the one that was verified.
UPDATE users SET password_hash = :password_hash, updated_at = now() WHERE id = :id AND password_hash = :verified

-- name: users.reset_password
-- By a link that was mailed: who follows it has the mailbox, so the address is verified too.
UPDATE users SET password_hash = :password_hash, email_verified = true, updated_at = now() WHERE id = :id

-- name: users.verify_email
-- The link was followed.
UPDATE users SET email_verified = true, updated_at = now() WHERE id = :id AND NOT email_verified

-- name: users.set_role
-- From the command line alone: in the audit log no account did it. No row: nobody has the email.
WITH old AS (SELECT id, role FROM users WHERE email = :email AND deleted_at IS NULL FOR NO KEY UPDATE),
u AS (UPDATE users SET role = :role, updated_at = statement_timestamp(), version = version + 1
      FROM old WHERE users.id = old.id AND old.role <> :role RETURNING users.id),
audit AS (INSERT INTO audit_log (id, action, subject_id, details)
          SELECT :audit_id, 'role.set', old.id, jsonb_build_object('from', old.role, 'to', :role::text)
          FROM u JOIN old ON old.id = u.id)
SELECT EXISTS (SELECT FROM u) AS changed FROM old

-- name: users.location
-- Where the caller's own searches start.
SELECT ST_Y(fixed_location::geometry) AS latitude, ST_X(fixed_location::geometry) AS longitude
FROM users WHERE id = :id AND fixed_location IS NOT NULL

-- name: users.block
-- Again changes nothing. Open sockets hear of a new one by the outbox.
WITH added AS (
  INSERT INTO blocks (blocker_id, blocked_id) SELECT :user, id FROM users WHERE id = :other AND deleted_at IS NULL
  ON CONFLICT DO NOTHING RETURNING blocker_id, blocked_id),
told AS (INSERT INTO outbox (kind, topic, note) SELECT 'user.block', blocker_id, blocked_id::text FROM added)
SELECT id FROM users WHERE id = :other AND deleted_at IS NULL

-- name: users.unblock
-- The caller's own block alone: one that the other made stays.
WITH gone AS (DELETE FROM blocks WHERE blocker_id = :user AND blocked_id = :other RETURNING blocker_id, blocked_id),
told AS (INSERT INTO outbox (kind, topic, note) SELECT 'user.block', blocker_id, blocked_id::text FROM gone)
SELECT id FROM users WHERE id = :other AND deleted_at IS NULL

-- name: users.blocks
-- Whom the caller has blocked, newest first: a list that people keep short, sorted each time.
SELECT u.id, u.name, u.photo_url, u.reputation_score, u.total_reviews, b.created_at
FROM blocks b JOIN users u ON u.id = b.blocked_id
WHERE b.blocker_id = :user AND (b.created_at, b.blocked_id) < (:before, :before_id)
ORDER BY b.created_at DESC, b.blocked_id DESC LIMIT :page

-- name: users.blocks_of
-- Every block that some of these people are part of, seen from them.
SELECT blocker_id AS user_id, blocked_id AS other_id FROM blocks WHERE blocker_id = ANY (:users)
UNION
SELECT blocked_id AS user_id, blocker_id AS other_id FROM blocks WHERE blocked_id = ANY (:users)

-- name: users.blocked_among
-- A block counts for both sides, whoever made it.
SELECT blocked_id FROM blocks WHERE blocker_id = :user AND blocked_id = ANY (:others)
UNION
SELECT blocker_id FROM blocks WHERE blocked_id = :user AND blocker_id = ANY (:others)

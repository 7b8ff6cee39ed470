-- fragment: card
  r.id, r.gig_id, g.title AS gig_title, r.rating, r.comment, r.created_at, r.updated_at, r.version,
  r.reviewer_id, a.name AS reviewer_name, a.photo_url AS reviewer_photo_url,
  a.reputation_score AS reviewer_reputation_score, a.total_reviews AS reviewer_total_reviews,
  r.reviewee_id, e.name AS reviewee_name, e.photo_url AS reviewee_photo_url,
  e.reputation_score AS reviewee_reputation_score, e.total_reviews AS reviewee_total_reviews

-- fragment: around
  -- A page's rows one by one: behind OFFSET 0 no guess at the number of rows makes a scan of a whole table of it.
  CROSS JOIN LATERAL (SELECT title FROM gigs WHERE id = r.gig_id OFFSET 0) g
  CROSS JOIN LATERAL (SELECT * FROM users WHERE id = r.reviewer_id OFFSET 0) a
  CROSS JOIN LATERAL (SELECT * FROM users WHERE id = r.reviewee_id OFFSET 0) e

-- fragment: shown
  -- A block hides what either side says and what is said of it; the two whom a review is between keep it.
  (:viewer IN (r.reviewer_id, r.reviewee_id) OR NOT EXISTS (
     SELECT 1 FROM blocks WHERE blocker_id = :viewer AND blocked_id IN (r.reviewer_id, r.reviewee_id)
     UNION ALL
     SELECT 1 FROM blocks WHERE blocked_id = :viewer AND blocker_id IN (r.reviewer_id, r.reviewee_id)))

-- name: reviews.standing
-- What decides whether somebody may review a gig. COMPLETED is final, so that no lock is needed; the clock that counts
-- is the database's.
SELECT g.seeker_id, g.helper_id, g.status, g.completed_at,
  coalesce(statement_timestamp() > g.completed_at + make_interval(hours => :window_hours), false) AS closed,
  EXISTS (SELECT 1 FROM reviews WHERE gig_id = g.id AND reviewer_id = :user_id) AS already
FROM gigs g WHERE g.id = :gig_id

-- name: reviews.create
-- Two of one person for one gig meet in reviews_once. The time is this statement's.
WITH r AS (
  INSERT INTO reviews (id, gig_id, reviewer_id, reviewee_id, rating, comment, created_at, updated_at)
  VALUES (:id, :gig_id, :reviewer_id, :reviewee_id, :rating, :comment, statement_timestamp(), statement_timestamp())
  RETURNING *),
told AS (INSERT INTO outbox (kind, topic, note) SELECT 'person.told', reviewee_id, 'review_received ' || gig_id FROM r)
SELECT @card@ FROM r @around@

-- name: reviews.by_id
-- One review, by primary keys alone.
SELECT @card@ FROM reviews r @around@ WHERE r.id = :id AND @shown@

-- name: reviews.lock
-- Whoever changes a review takes turns here, so that the rating taken off the sum is the one that was in it.
SELECT reviewer_id, reviewee_id, rating, version,
  statement_timestamp() <= created_at + make_interval(hours => :edit_hours) AS editable
FROM reviews r WHERE id = :id AND @shown@ FOR UPDATE

-- name: reviews.change
-- A partial body on a review that reviews.lock holds; null clears the comment.
WITH r AS (
  UPDATE reviews SET
    rating = CASE WHEN :set_rating THEN :rating ELSE rating END,
    comment = CASE WHEN :set_comment THEN :comment ELSE comment END,
    updated_at = statement_timestamp(), version = version + 1
  WHERE id = :id RETURNING *)
SELECT @card@ FROM r @around@

-- name: reviews.remove
-- Gone for good, the rating with it.
DELETE FROM reviews WHERE id = :id

-- name: reviews.of_reviewee
-- What is said of somebody, newest first, along reviews_of_reviewee.
SELECT @card@ FROM reviews r @around@
WHERE r.reviewee_id = :subject AND (r.created_at, r.id) < (:before, :before_id) AND @shown@
ORDER BY r.created_at DESC, r.id DESC LIMIT :page

-- name: reviews.of_reviewer
-- What somebody says of others, newest first, along reviews_of_reviewer.
SELECT @card@ FROM reviews r @around@
WHERE r.reviewer_id = :subject AND (r.created_at, r.id) < (:before, :before_id)
ORDER BY r.created_at DESC, r.id DESC LIMIT :page

-- name: reviews.of_gig
-- The two sides of a gig about each other: two rows at most, by the index of reviews_once.
SELECT @card@ FROM reviews r @around@
WHERE r.gig_id = :subject AND (r.created_at, r.id) < (:before, :before_id) AND @shown@
ORDER BY r.created_at DESC, r.id DESC LIMIT :page

-- name: reviews.count_of_reviewer
-- Only when include_total asks for it.
SELECT count(*) FROM reviews WHERE reviewer_id = :user_id

-- name: reviews.count_of_gig
-- How many there are of a gig; no row when there is no such gig, as for who is blocked and no side of it.
SELECT (SELECT count(*) FROM reviews r WHERE r.gig_id = g.id AND @shown@) AS count FROM gigs g
WHERE g.id = :gig_id AND (:viewer IN (g.seeker_id, g.helper_id) OR NOT EXISTS (
  SELECT 1 FROM blocks WHERE blocker_id = :viewer AND blocked_id = g.seeker_id
  UNION ALL
  SELECT 1 FROM blocks WHERE blocked_id = :viewer AND blocker_id = g.seeker_id))

-- name: reviews.tally
-- How somebody was rated, counted from the reviews, beside the score that is kept: one statement, so one moment. By the
-- index alone, which holds the rating. Whoever is blocked has no profile, and so none here.
SELECT u.reputation_score, u.reputation_override IS NOT NULL AS is_overridden, r.*
FROM users u CROSS JOIN LATERAL (
  SELECT coalesce(sum(rating), 0) AS sum, count(*) AS count,
    count(*) FILTER (WHERE rating = 1) AS ones, count(*) FILTER (WHERE rating = 2) AS twos,
    count(*) FILTER (WHERE rating = 3) AS threes, count(*) FILTER (WHERE rating = 4) AS fours,
    count(*) FILTER (WHERE rating = 5) AS fives
  FROM reviews WHERE reviewee_id = u.id) r
WHERE u.id = :id AND (u.suspended_at IS NULL OR NOT :in_good_standing)
  AND NOT EXISTS (SELECT 1 FROM blocks WHERE blocker_id = u.id AND blocked_id = :viewer)
  AND NOT EXISTS (SELECT 1 FROM blocks WHERE blocker_id = :viewer AND blocked_id = u.id)

-- name: reviews.sums
-- What the sums in the users' rows must be, for people whose rows the transaction holds.
SELECT p.id, coalesce(sum(r.rating), 0) AS sum, count(r.id) AS count
FROM unnest(:people::uuid[]) AS p (id) LEFT JOIN reviews r ON r.reviewee_id = p.id
GROUP BY p.id ORDER BY p.id

-- name: reviews.export_written
-- What somebody said of others.
SELECT id::text AS key, json_build_object(
  'id', id, 'gig_id', gig_id, 'reviewee_id', reviewee_id, 'rating', rating, 'comment', comment,
  'created_at', wire_time(created_at), 'updated_at', wire_time(updated_at))::text AS item
FROM reviews WHERE reviewer_id = :user AND (:after = '' OR id > nullif(:after, '')::uuid) ORDER BY id LIMIT :page

-- name: reviews.export_received
-- What others said of somebody, which anybody can read.
SELECT id::text AS key, json_build_object(
  'id', id, 'gig_id', gig_id, 'reviewer_id', reviewer_id, 'rating', rating, 'comment', comment,
  'created_at', wire_time(created_at), 'updated_at', wire_time(updated_at))::text AS item
FROM reviews WHERE reviewee_id = :user AND (:after = '' OR id > nullif(:after, '')::uuid) ORDER BY id LIMIT :page

-- fragment: card
  g.id, g.title, g.description, g.category, g.duration_hours, g.budget, g.currency,
  CASE WHEN :viewer IN (g.seeker_id, g.helper_id) THEN ST_Y(g.location::geometry)
       ELSE ST_Y(g.public_location::geometry) END AS latitude,
  CASE WHEN :viewer IN (g.seeker_id, g.helper_id) THEN ST_X(g.location::geometry)
       ELSE ST_X(g.public_location::geometry) END AS longitude,
  CASE WHEN :viewer IN (g.seeker_id, g.helper_id) THEN g.address_text END AS address_text, g.image_urls, g.status, g.starts_at, g.expires_at, g.created_at, g.updated_at,
  g.accepted_at, g.started_at, g.completed_at, g.cancelled_at,
  CASE WHEN :viewer IN (g.seeker_id, g.helper_id) THEN g.cancel_reason END AS cancel_reason, g.version,
  g.seeker_id, s.name AS seeker_name, s.photo_url AS seeker_photo_url, s.reputation_score AS seeker_reputation_score,
  s.total_reviews AS seeker_total_reviews,
  g.helper_id, h.name AS helper_name, h.photo_url AS helper_photo_url, h.reputation_score AS helper_reputation_score,
  h.total_reviews AS helper_total_reviews

-- fragment: people_of
  -- A page's people one by one: behind OFFSET 0 no guess at the number of rows makes a scan of all users of it.
  CROSS JOIN LATERAL (SELECT * FROM users WHERE id = g.seeker_id OFFSET 0) s
  LEFT JOIN LATERAL (SELECT * FROM users WHERE id = g.helper_id OFFSET 0) h ON true

-- fragment: seeker_of
  CROSS JOIN LATERAL (SELECT name, photo_url, reputation_score, total_reviews FROM users WHERE id = g.seeker_id OFFSET 0) s
  CROSS JOIN (SELECT NULL::text AS name, NULL::text AS photo_url, NULL::double precision AS reputation_score,
                     NULL::integer AS total_reviews) h

-- fragment: people
  JOIN users s ON s.id = g.seeker_id LEFT JOIN users h ON h.id = g.helper_id

-- fragment: point
  ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography

-- fragment: plane
  -- As gigs_open_plane has it, to the letter.
  point(ST_X(g.public_location::geometry),
        degrees(ln(tan(radians(45 + greatest(-85.05, least(85.05, ST_Y(g.public_location::geometry))) / 2)))))

-- fragment: blocked
  (EXISTS (SELECT 1 FROM blocks WHERE blocker_id = g.seeker_id AND blocked_id = :viewer)
   OR EXISTS (SELECT 1 FROM blocks WHERE blocker_id = :viewer AND blocked_id = g.seeker_id))

-- fragment: unmet
  -- A list, made once a statement however many gigs are held against it: mostly empty, and then it costs nothing that can
  -- be measured, where a hash made for NOT IN costs a tenth of a search. A block counts for both sides.
  g.seeker_id <> ALL (ARRAY(SELECT blocked_id FROM blocks WHERE blocker_id = :viewer
                            UNION ALL SELECT blocker_id FROM blocks WHERE blocked_id = :viewer))

-- fragment: filters
  -- The words behind an OR: as a bare condition they would tempt the planner, which does not see that there are none, to
  -- fetch the whole index of words.
  (:min_budget::bigint IS NULL OR g.budget >= :min_budget)
  AND (:max_budget::bigint IS NULL OR g.budget <= :max_budget)
  AND (:max_duration::double precision IS NULL OR g.duration_hours <= :max_duration)
  AND (:category::text IS NULL OR g.category = :category)
  AND (:starts_after::timestamptz IS NULL OR g.starts_at >= :starts_after)
  AND (:starts_before::timestamptz IS NULL OR g.starts_at <= :starts_before)
  AND (cardinality(:words) = 0 OR g.terms @> :words) AND @unmet@

-- fragment: box
  (NOT :boxed OR (ST_Y(g.public_location::geometry) BETWEEN :min_latitude AND :max_latitude
    AND CASE WHEN :min_longitude <= :max_longitude
             THEN ST_X(g.public_location::geometry) BETWEEN :min_longitude AND :max_longitude
             ELSE ST_X(g.public_location::geometry) >= :min_longitude
               OR ST_X(g.public_location::geometry) <= :max_longitude END))

-- fragment: area
  (NOT :placed OR ST_DWithin(g.public_location, @point@, :radius_m)) AND @box@

-- fragment: sort_key
  CASE :sort WHEN 'newest' THEN -(extract(epoch FROM g.created_at) * 1000000)::double precision
             WHEN 'budget' THEN -g.budget::double precision
             ELSE ST_Distance(g.public_location, @point@) END

-- fragment: distance
  CASE WHEN :placed THEN ST_Distance(g.public_location, @point@) END AS distance_m

-- name: gigs.create
-- The gig, its first event, what others hear of it and its timer in one statement, so that posting costs one round trip.
-- No row for a seeker who was suspended a moment ago: the lock is the foreign key's, taken first.
WITH seeker AS (SELECT id FROM users WHERE id = :viewer AND suspended_at IS NULL FOR KEY SHARE),
g AS (
  INSERT INTO gigs (id, seeker_id, title, description, category, duration_hours, budget, location, public_location,
                    cell_x, cell_y, address_text, image_urls, terms, starts_at, expires_at)
  SELECT :id, id, :title, :description, :category, :duration_hours, :budget,
         ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography,
         ST_SetSRID(ST_MakePoint(:public_longitude, :public_latitude), 4326)::geography,
         :cell_x, :cell_y, :address_text, :image_urls, :terms, :starts_at, :expires_at FROM seeker
  RETURNING *),
event AS (INSERT INTO gig_events (gig_id, version, action, actor_id, from_status, to_status)
          SELECT id, version, 'CREATE', seeker_id, NULL, status FROM g),
told AS (INSERT INTO outbox (kind, topic, number) SELECT 'gig.changed', id, version FROM g),
timer AS (INSERT INTO timers (kind, subject_id, due_at)
          SELECT 'gig.expire', id, expires_at FROM g WHERE expires_at IS NOT NULL)
SELECT @card@ FROM g @people@

-- name: gigs.by_id
-- The most frequent read: three primary keys, and for strangers the two of a block. Its two sides have it whoever
-- blocks whom.
SELECT @card@ FROM gigs g @people@
WHERE g.id = :id AND (:viewer IN (g.seeker_id, g.helper_id) OR NOT @blocked@)

-- name: gigs.news
-- What others are told of gigs that changed: as strangers see them (the viewer is nobody) and what the two sides see.
SELECT @card@, ST_Y(g.location::geometry) AS true_latitude, ST_X(g.location::geometry) AS true_longitude,
  g.address_text AS true_address_text, g.cancel_reason AS true_cancel_reason, g.terms,
  coalesce(g.expires_at <= now(), false) AS expired
FROM gigs g @people_of@ WHERE g.id = ANY(:ids)

-- name: gigs.lock
-- Whoever wants to move or change a gig takes turns here; the clock that counts is the database's. Blocked strangers find
-- none.
SELECT seeker_id, helper_id, status, version, expires_at IS NOT NULL AND expires_at <= now() AS expired
FROM gigs g WHERE id = :id AND (:viewer IN (seeker_id, helper_id) OR NOT @blocked@) FOR UPDATE

-- name: gigs.lock_idle
-- For the clock, which holds a timer that whoever moves the gig may be about to write: it waits for nobody.
SELECT seeker_id, helper_id, status, version, expires_at IS NOT NULL AND expires_at <= now() AS expired
FROM gigs WHERE id = :id FOR UPDATE SKIP LOCKED

-- name: gigs.lock_open
-- All pending gigs of a seeker, held in one order.
SELECT id FROM gigs WHERE seeker_id = :seeker_id AND status = 'PENDING' ORDER BY id FOR UPDATE

-- name: gigs.move
-- One step of the life of a gig that gigs.lock holds, with all that belongs to it. Times are this statement's: now() is
-- the transaction's, which may have begun before the step that it waited for. Whoever accepts, and the seeker, must be
-- there when it is done: users.hold_account of a leaving one waits for this lock, or this for it and then finds nobody.
WITH present AS (
  SELECT id FROM users
  WHERE :to_status = 'ACCEPTED' AND id IN (:viewer, (SELECT seeker_id FROM gigs WHERE id = :id))
    AND suspended_at IS NULL ORDER BY id FOR KEY SHARE),
g AS (
  UPDATE gigs SET
    status = :to_status,
    helper_id = CASE :to_status WHEN 'ACCEPTED' THEN :viewer WHEN 'PENDING' THEN NULL ELSE helper_id END,
    accepted_at = CASE :to_status WHEN 'ACCEPTED' THEN statement_timestamp() WHEN 'PENDING' THEN NULL ELSE accepted_at END,
    started_at = CASE :to_status WHEN 'IN_PROGRESS' THEN statement_timestamp() ELSE started_at END,
    completed_at = CASE :to_status WHEN 'COMPLETED' THEN statement_timestamp() ELSE completed_at END,
    cancelled_at = CASE :to_status WHEN 'CANCELLED' THEN statement_timestamp() ELSE cancelled_at END,
    cancel_reason = CASE :to_status WHEN 'CANCELLED' THEN :reason ELSE cancel_reason END,
    updated_at = statement_timestamp(), version = version + 1
  WHERE id = :id AND status = :from_status AND (:to_status <> 'ACCEPTED' OR (SELECT count(*) FROM present) = 2)
  RETURNING *),
event AS (INSERT INTO gig_events (gig_id, version, action, actor_id, from_status, to_status, reason, at)
          SELECT id, version, :action, :actor_id, :from_status, status, :reason, updated_at FROM g),
told AS (INSERT INTO outbox (kind, topic, number) SELECT 'gig.changed', id, version FROM g),
opened AS (INSERT INTO gig_assignments (gig_id, helper_id, accepted_at)
           SELECT id, helper_id, accepted_at FROM g WHERE status = 'ACCEPTED'),
ended AS (UPDATE gig_assignments SET ended_at = statement_timestamp()
          WHERE gig_id = :id AND ended_at IS NULL AND :to_status IN ('PENDING', 'CANCELLED', 'COMPLETED')),
timer AS (INSERT INTO timers (kind, subject_id, due_at)
          SELECT 'gig.expire', id, expires_at FROM g WHERE status = 'PENDING' AND expires_at IS NOT NULL
          ON CONFLICT (kind, subject_id) DO UPDATE SET due_at = excluded.due_at)
SELECT @card@ FROM g @people@

-- name: gigs.change
-- A partial body on a gig that gigs.lock holds; flags say what is to be set, since null clears.
WITH g AS (
  UPDATE gigs SET
    title = CASE WHEN :set_title THEN :title ELSE title END,
    description = CASE WHEN :set_description THEN :description ELSE description END,
    terms = CASE WHEN :set_terms THEN :terms ELSE terms END,
    category = CASE WHEN :set_category THEN :category ELSE category END,
    duration_hours = CASE WHEN :set_duration_hours THEN :duration_hours ELSE duration_hours END,
    budget = CASE WHEN :set_budget THEN :budget ELSE budget END,
    location = CASE WHEN :set_location
                    THEN ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography ELSE location END,
    public_location = CASE WHEN :set_location
                           THEN ST_SetSRID(ST_MakePoint(:public_longitude, :public_latitude), 4326)::geography
                           ELSE public_location END,
    cell_x = CASE WHEN :set_location THEN :cell_x ELSE cell_x END,
    cell_y = CASE WHEN :set_location THEN :cell_y ELSE cell_y END,
    address_text = CASE WHEN :set_address_text THEN :address_text ELSE address_text END,
    image_urls = CASE WHEN :set_image_urls THEN :image_urls ELSE image_urls END,
    starts_at = CASE WHEN :set_starts_at THEN :starts_at ELSE starts_at END,
    expires_at = CASE WHEN :set_expires_at THEN :expires_at ELSE expires_at END,
    updated_at = statement_timestamp(), version = version + 1
  WHERE id = :id RETURNING *),
event AS (INSERT INTO gig_events (gig_id, version, action, actor_id, from_status, to_status, at)
          SELECT id, version, 'CHANGE', seeker_id, status, status, updated_at FROM g),
told AS (INSERT INTO outbox (kind, topic, number) SELECT 'gig.changed', id, version FROM g),
untimed AS (DELETE FROM timers WHERE kind = 'gig.expire' AND subject_id = :id AND :set_expires_at
            AND :expires_at::timestamptz IS NULL),
timer AS (INSERT INTO timers (kind, subject_id, due_at)
          SELECT 'gig.expire', id, expires_at FROM g WHERE :set_expires_at AND expires_at IS NOT NULL
          ON CONFLICT (kind, subject_id) DO UPDATE SET due_at = excluded.due_at)
SELECT @card@ FROM g @people@

-- name: gigs.texts
-- Title and description, to make search terms when only one of them changes.
SELECT title, description FROM gigs WHERE id = :id

-- name: gigs.events
-- The history, oldest first.
SELECT version, action, actor_id, from_status, to_status, reason, at FROM gig_events 
WHERE gig_id = :gig_id AND version > :after_version
ORDER BY version LIMIT :page

-- name: gigs.sides
-- Who may read a gig's history.
SELECT seeker_id, helper_id FROM gigs g WHERE id = :id AND (:viewer IN (seeker_id, helper_id) OR NOT @blocked@)

-- name: gigs.share
-- Whether two people may see each other's contact details.
SELECT EXISTS (
  SELECT 1 FROM gigs WHERE seeker_id = :one AND helper_id = :other AND status IN ('ACCEPTED', 'IN_PROGRESS', 'COMPLETED')
  UNION ALL
  SELECT 1 FROM gigs WHERE seeker_id = :other AND helper_id = :one AND status IN ('ACCEPTED', 'IN_PROGRESS', 'COMPLETED')
) AS shared

-- name: gigs.completed_together
-- For a whole page of people at once, along gigs_completed_pair from both ends.
WITH done AS (
  SELECT helper_id AS other FROM gigs WHERE seeker_id = :one AND helper_id = ANY (:others) AND status = 'COMPLETED'
  UNION ALL
  SELECT seeker_id FROM gigs WHERE seeker_id = ANY (:others) AND helper_id = :one AND status = 'COMPLETED')
SELECT count(d.other) FROM unnest(:others) WITH ORDINALITY o (id, place) LEFT JOIN done d ON d.other = o.id
GROUP BY o.place ORDER BY o.place

-- name: gigs.of_seeker
-- The caller's posted gigs, newest first.
SELECT @card@ FROM gigs g @people@
WHERE g.seeker_id = :viewer AND (:status::text IS NULL OR g.status = :status)
  AND (g.created_at, g.id) < (:before, :before_id)
ORDER BY g.created_at DESC, g.id DESC LIMIT :page

-- name: gigs.of_helper
-- The gigs that the caller helps or helped with, newest first.
SELECT @card@ FROM gigs g @people@
WHERE g.helper_id = :viewer AND (:status::text IS NULL OR g.status = :status)
  AND (g.created_at, g.id) < (:before, :before_id)
ORDER BY g.created_at DESC, g.id DESC LIMIT :page

-- name: gigs.of_both
-- Both at once.
SELECT @card@ FROM gigs g @people@
WHERE (g.seeker_id = :viewer OR g.helper_id = :viewer) AND (:status::text IS NULL OR g.status = :status)
  AND (g.created_at, g.id) < (:before, :before_id)
ORDER BY g.created_at DESC, g.id DESC LIMIT :page

-- name: gigs.count_mine
-- Only when include_total asks for it.
SELECT count(*) FROM gigs g
WHERE ((:as_seeker AND g.seeker_id = :viewer) OR (:as_helper AND g.helper_id = :viewer))
  AND (:status::text IS NULL OR g.status = :status)

-- name: gigs.near
-- Open gigs by distance on the sphere, which the index knows; the caller settles the order by true distance. Ordered by
-- nothing else: PostgreSQL 15 walks an index by distance only when distance is the whole order. A filter that hardly
-- anything fits would walk to the end of the radius: a page looks at the next :walk gigs, and where it must stop short it
-- says so with a cursor.
SELECT @card@, g.distance_m FROM (
  SELECT * FROM (
    SELECT g.*, ST_Distance(g.public_location, @point@) AS distance_m
    FROM gigs g
    WHERE g.status = 'PENDING' AND ST_DWithin(g.public_location, @point@, :radius_m)
      AND (ST_Distance(g.public_location, @point@), g.id) > (:after_key, :after_id)
    ORDER BY g.public_location <-> @point@ LIMIT :walk) g
  WHERE @box@ AND @filters@ LIMIT :candidates) g @people_of@

-- name: gigs.near_plain
-- The first page without filter or box, which most searches are, in the order of the plane: the caller settles it as above
-- and drops what lies beyond the radius, since a page's candidates are few. An open gig has no helper.
SELECT @card@, g.distance_m FROM (
  SELECT g.*, ST_Distance(g.public_location, @point@) AS distance_m
  FROM gigs g
  WHERE g.status = 'PENDING' AND @unmet@
  ORDER BY @plane@ <-> point(:longitude, degrees(ln(tan(radians(45 + :latitude::double precision / 2)))))
  LIMIT :candidates) g @seeker_of@

-- name: gigs.near_other
-- The same for gigs that are no longer open, on their own index.
SELECT @card@, g.distance_m FROM (
  SELECT * FROM (
    SELECT g.*, ST_Distance(g.public_location, @point@) AS distance_m
    FROM gigs g
    WHERE g.status <> 'PENDING' AND g.status = :status AND ST_DWithin(g.public_location, @point@, :radius_m)
      AND (ST_Distance(g.public_location, @point@), g.id) > (:after_key, :after_id)
    ORDER BY g.public_location <-> @point@ LIMIT :walk) g
  WHERE @box@ AND @filters@ LIMIT :candidates) g @people_of@

-- name: gigs.newest
-- Walks the newest first and keeps those that fit: for areas and words that many gigs fit. The inner LIMIT fences the walk
-- off from the conditions, and bounds it as in gigs.near.
SELECT @card@, @distance@, -(extract(epoch FROM g.created_at) * 1000000)::double precision AS sort_key
FROM (SELECT * FROM (SELECT * FROM gigs g WHERE g.status = :status AND (g.created_at, g.id) < (:before, :before_id)
                     ORDER BY g.created_at DESC, g.id DESC LIMIT :walk) g
      WHERE @area@ AND @filters@ LIMIT :page) g @people_of@
ORDER BY g.created_at DESC, g.id DESC

-- name: gigs.budget
-- The same, the best paid first.
SELECT @card@, @distance@, -g.budget::double precision AS sort_key
FROM (SELECT * FROM (SELECT * FROM gigs g WHERE g.status = :status AND (g.budget, g.id) < (:below_budget, :before_id)
                     ORDER BY g.budget DESC, g.id DESC LIMIT :walk) g
      WHERE @area@ AND @filters@ LIMIT :page) g @people_of@
ORDER BY g.budget DESC, g.id DESC

-- name: gigs.gather_open
-- Takes all open gigs of a small area and sorts them: for areas that few gigs fit.
SELECT @card@, g.distance_m, g.sort_key FROM (
  SELECT * FROM (
    SELECT g.*, @distance@, @sort_key@ AS sort_key FROM gigs g
    WHERE g.status = 'PENDING' AND ST_DWithin(g.public_location, @point@, :radius_m) AND @box@ AND @filters@) found
  WHERE CASE WHEN :sort = 'distance' THEN (sort_key, id) > (:after_key, :after_id)
             ELSE sort_key > :after_key OR (sort_key = :after_key AND id < :after_id) END
  ORDER BY sort_key, CASE WHEN :sort = 'distance' THEN id END, id DESC LIMIT :page) g @people_of@
ORDER BY g.sort_key, CASE WHEN :sort = 'distance' THEN g.id END, g.id DESC

-- name: gigs.gather_other
-- The same for gigs that are no longer open.
SELECT @card@, g.distance_m, g.sort_key FROM (
  SELECT * FROM (
    SELECT g.*, @distance@, @sort_key@ AS sort_key FROM gigs g
    WHERE g.status <> 'PENDING' AND g.status = :status AND ST_DWithin(g.public_location, @point@, :radius_m)
      AND @box@ AND @filters@) found
  WHERE CASE WHEN :sort = 'distance' THEN (sort_key, id) > (:after_key, :after_id)
             ELSE sort_key > :after_key OR (sort_key = :after_key AND id < :after_id) END
  ORDER BY sort_key, CASE WHEN :sort = 'distance' THEN id END, id DESC LIMIT :page) g @people_of@
ORDER BY g.sort_key, CASE WHEN :sort = 'distance' THEN g.id END, g.id DESC

-- name: gigs.gather_words
-- Takes all gigs that hold rare words, wherever they are, and sorts those of the area.
SELECT @card@, g.distance_m, g.sort_key FROM (
  SELECT * FROM (
    SELECT g.*, @distance@, @sort_key@ AS sort_key FROM (SELECT * FROM gigs WHERE terms @> :words OFFSET 0) g
    WHERE g.status = :status AND @area@ AND @filters@) found
  WHERE CASE WHEN :sort = 'distance' THEN (sort_key, id) > (:after_key, :after_id)
             ELSE sort_key > :after_key OR (sort_key = :after_key AND id < :after_id) END
  ORDER BY sort_key, CASE WHEN :sort = 'distance' THEN id END, id DESC LIMIT :page) g @people_of@
ORDER BY g.sort_key, CASE WHEN :sort = 'distance' THEN g.id END, g.id DESC

-- name: gigs.few_open
-- How many open gigs an area holds, counted no further than decides how to search it.
SELECT count(*) FROM (SELECT 1 FROM gigs g
  WHERE g.status = 'PENDING' AND ST_DWithin(g.public_location, @point@, :radius_m) LIMIT :cap) found

-- name: gigs.few_other
-- The same for gigs that are no longer open.
SELECT count(*) FROM (SELECT 1 FROM gigs g
  WHERE g.status <> 'PENDING' AND g.status = :status AND ST_DWithin(g.public_location, @point@, :radius_m)
  LIMIT :cap) found

-- name: gigs.few_words
-- How many gigs hold all of the words, counted no further than decides how to search for them.
SELECT count(*) FROM (SELECT 1 FROM gigs g WHERE g.terms @> :words LIMIT :cap) found

-- name: gigs.count
-- Only when include_total asks for it: every gig that fits, wherever it is.
SELECT count(*) FROM gigs g WHERE g.status = :status AND @filters@

-- name: gigs.count_open
-- The same within an area, by the index of places.
SELECT count(*) FROM gigs g
WHERE g.status = 'PENDING' AND ST_DWithin(g.public_location, @point@, :radius_m) AND @box@ AND @filters@

-- name: gigs.count_other
-- The same for gigs that are no longer open.
SELECT count(*) FROM gigs g
WHERE g.status <> 'PENDING' AND g.status = :status AND ST_DWithin(g.public_location, @point@, :radius_m) AND @box@
  AND @filters@

-- name: gigs.walk_end_open
-- The first gig that a walk of gigs.near did not come to, if it was cut short.
SELECT g.public_location <-> @point@ AS sphere_m FROM gigs g
WHERE g.status = 'PENDING' AND ST_DWithin(g.public_location, @point@, :radius_m)
  AND (ST_Distance(g.public_location, @point@), g.id) > (:after_key, :after_id)
ORDER BY g.public_location <-> @point@ OFFSET :walk LIMIT 1

-- name: gigs.walk_end_other
-- The same of gigs.near_other.
SELECT g.public_location <-> @point@ AS sphere_m FROM gigs g
WHERE g.status <> 'PENDING' AND g.status = :status AND ST_DWithin(g.public_location, @point@, :radius_m)
  AND (ST_Distance(g.public_location, @point@), g.id) > (:after_key, :after_id)
ORDER BY g.public_location <-> @point@ OFFSET :walk LIMIT 1

-- name: gigs.walk_end_newest
-- The last gig that a walk of gigs.newest came to, if it was cut short.
SELECT -(extract(epoch FROM g.created_at) * 1000000)::double precision AS key, g.id FROM gigs g
WHERE g.status = :status AND (g.created_at, g.id) < (:before, :before_id)
ORDER BY g.created_at DESC, g.id DESC OFFSET :walk - 1 LIMIT 1

-- name: gigs.walk_end_budget
-- The same of gigs.budget.
SELECT -g.budget::double precision AS key, g.id FROM gigs g
WHERE g.status = :status AND (g.budget, g.id) < (:below_budget, :before_id)
ORDER BY g.budget DESC, g.id DESC OFFSET :walk - 1 LIMIT 1

-- fragment: cells_in_view
  -- What is folded and what is not yet, in one snapshot. Rows of cells are walked one by one, since an index on
  -- (level, y, x) can only walk a row. Across the antimeridian a view has two ranges of columns, else the second is empty.
  SELECT y, x, sum(count)::bigint AS count, sum(latitude_sum)::bigint AS latitude_sum,
         sum(longitude_sum)::bigint AS longitude_sum, (sum(sum(count)) OVER ())::bigint AS total
  FROM (
    SELECT c.y, c.x, c.count, c.latitude_sum, c.longitude_sum
    FROM generate_series(:min_y, :max_y) AS r (y)
    CROSS JOIN (VALUES (:min_x::integer, :max_x::integer), (:second_min_x, :second_max_x)) AS range (min_x, max_x)
    CROSS JOIN LATERAL (SELECT * FROM gig_cells WHERE level = :level::integer::smallint AND gig_cells.y = r.y
                          AND x BETWEEN range.min_x AND range.max_x OFFSET 0) c
    UNION ALL
    SELECT y >> (20 - :level), x >> (20 - :level), change, change * latitude::bigint, change * longitude::bigint
    FROM gig_cell_changes
    WHERE y >> (20 - :level) BETWEEN :min_y AND :max_y
      AND (x >> (20 - :level) BETWEEN :min_x AND :max_x OR x >> (20 - :level) BETWEEN :second_min_x AND :second_max_x)
  ) changed_and_folded
  GROUP BY y, x HAVING sum(count) > 0

-- fragment: seen
  g.id, g.title, g.budget, ST_Y(g.public_location::geometry) AS latitude,
  ST_X(g.public_location::geometry) AS longitude,
  g.budget BETWEEN :min_budget AND :max_budget
    AND (:category::text IS NULL OR coalesce(g.category = :category, false)) AND @unmet@ AS fits

-- name: gigs.map
-- Open gigs by cell, with the gigs themselves where they are single or few in view: a cell is a range of gigs.cell_key.
-- Cells count the gigs of all, those of blocked people too; such a gig is itself never shown.
WITH cells AS MATERIALIZED (@cells_in_view@)
SELECT c.y, c.x, c.count, c.latitude_sum, c.longitude_sum, c.count = 1 OR c.total <= :pins_up_to AS pinned, g.id, g.title, g.budget, g.latitude, g.longitude
FROM cells c LEFT JOIN LATERAL (
  SELECT g.id, g.title, g.budget, ST_Y(g.public_location::geometry) AS latitude,
         ST_X(g.public_location::geometry) AS longitude
  FROM gigs g
  WHERE (c.count = 1 OR c.total <= :pins_up_to) AND g.status = 'PENDING'
    AND g.cell_key >= gig_cell_key(c.y, c.x) << 2 * (20 - :level)
    AND g.cell_key < gig_cell_key(c.y, c.x) + 1 << 2 * (20 - :level) AND @unmet@
  ORDER BY g.cell_key LIMIT 500) g ON true

-- name: gigs.cells
-- Open gigs by cell alone.
SELECT y, x, count FROM (@cells_in_view@) cells

-- name: gigs.finer_cells
-- The same for cells within others. Changes that are not folded yet are few: those of the whole view.
SELECT y, x, sum(count)::bigint AS count
FROM (
  SELECT c.y, c.x, c.count
  FROM unnest(:ys::integer[], :xs::integer[]) AS p (y, x)
  CROSS JOIN LATERAL generate_series(p.y << :finer_by, (p.y + 1 << :finer_by) - 1) AS r (y)
  CROSS JOIN LATERAL (SELECT * FROM gig_cells WHERE level = :level::integer::smallint AND gig_cells.y = r.y
                        AND x BETWEEN p.x << :finer_by AND (p.x + 1 << :finer_by) - 1 OFFSET 0) c
  UNION ALL
  SELECT y >> (20 - :level), x >> (20 - :level), change FROM gig_cell_changes
  WHERE y >> (20 - :level) BETWEEN :min_y AND :max_y
    AND (x >> (20 - :level) BETWEEN :min_x AND :max_x OR x >> (20 - :level) BETWEEN :second_min_x AND :second_max_x)
) changed_and_folded
GROUP BY y, x HAVING sum(count) > 0

-- name: gigs.occupied
-- Which ranges of cells hold gigs of a status: by number, from 1.
SELECT c.number FROM unnest(:lows::bigint[], :highs::bigint[]) WITH ORDINALITY AS c (low, high, number)
CROSS JOIN LATERAL (SELECT 1 FROM gigs g WHERE g.status = :status AND g.cell_key >= c.low AND g.cell_key < c.high
                    ORDER BY g.cell_key LIMIT 1) g

-- name: gigs.look
-- So many gigs of each cell, and whether they fit; the box is the caller's to hold them against.
SELECT c.number, g.* FROM unnest(:lows::bigint[], :highs::bigint[]) WITH ORDINALITY AS c (low, high, number)
CROSS JOIN LATERAL (SELECT @seen@ FROM gigs g
                    WHERE g.status = :status AND g.cell_key >= c.low AND g.cell_key < c.high
                    ORDER BY g.cell_key LIMIT :looks) g

-- name: gigs.look_in_category
-- The same, where open gigs of a category have an index of their own.
SELECT c.number, g.* FROM unnest(:lows::bigint[], :highs::bigint[]) WITH ORDINALITY AS c (low, high, number)
CROSS JOIN LATERAL (SELECT @seen@ FROM gigs g
                    WHERE g.status = :status AND g.status = 'PENDING' AND g.category = :category
                      AND g.cell_key >= c.low AND g.cell_key < c.high
                    ORDER BY g.category, g.cell_key LIMIT :looks) g

-- name: gigs.few_in_budget
-- How many gigs have such a budget, anywhere, counted no further than decides whether to look at them all.
SELECT count(*) FROM (SELECT 1 FROM gigs g WHERE g.status = :status AND g.budget BETWEEN :min_budget AND :max_budget
                      ORDER BY g.budget LIMIT :looks) found

-- name: gigs.look_in_budget
-- All of them.
SELECT 1::bigint AS number, @seen@ FROM gigs g
WHERE g.status = :status AND g.budget BETWEEN :min_budget AND :max_budget ORDER BY g.budget LIMIT :looks

-- name: gigs.fold_lock
-- One server folds at a time.
SELECT pg_try_advisory_xact_lock(20261123001) AS locked

-- name: gigs.fold_cells
-- Moves changes into the cells of every level, a bite at a time. Readers see either the change or the fold, never both or
-- neither.
WITH moved AS (DELETE FROM gig_cell_changes
               WHERE ctid = ANY (ARRAY(SELECT ctid FROM gig_cell_changes LIMIT 4000)) RETURNING *),
summed AS (
  SELECT level, y >> (20 - level) AS y, x >> (20 - level) AS x, sum(change)::integer AS count,
         sum(change * latitude::bigint)::bigint AS latitude_sum, sum(change * longitude::bigint)::bigint AS longitude_sum
  FROM moved CROSS JOIN generate_series(0, 20, 2) AS level GROUP BY 1, 2, 3)
INSERT INTO gig_cells AS c (level, y, x, count, latitude_sum, longitude_sum)
SELECT level, y, x, count, latitude_sum, longitude_sum FROM summed ORDER BY level, y, x
ON CONFLICT (level, y, x) DO UPDATE SET count = c.count + excluded.count,
  latitude_sum = c.latitude_sum + excluded.latitude_sum, longitude_sum = c.longitude_sum + excluded.longitude_sum

-- name: gigs.drop_empty_cells
-- Cells that hold nothing any more, a bite at a time. One whose sums are not 0 waits for changes that are not folded yet.
DELETE FROM gig_cells WHERE (level, y, x) IN
  (SELECT level, y, x FROM gig_cells WHERE count = 0 AND latitude_sum = 0 AND longitude_sum = 0 LIMIT 1000)

-- name: gigs.export_gigs
-- Those that somebody posted, true place and all, and those that they help or helped with, as that side sees them.
SELECT g.id::text AS key, json_build_object(
  'id', g.id, 'role', CASE WHEN g.seeker_id = :user THEN 'seeker' ELSE 'helper' END, 'seeker_id', g.seeker_id,
  'helper_id', g.helper_id, 'title', g.title, 'description', g.description, 'category', g.category,
  'duration_hours', g.duration_hours, 'budget', trim_scale(g.budget / 100.0), 'currency', g.currency,
  'latitude', ST_Y(g.location::geometry), 'longitude', ST_X(g.location::geometry), 'address_text', g.address_text,
  'image_urls', g.image_urls, 'status', g.status, 'starts_at', wire_time(g.starts_at),
  'expires_at', wire_time(g.expires_at), 'created_at', wire_time(g.created_at), 'updated_at', wire_time(g.updated_at),
  'accepted_at', wire_time(g.accepted_at), 'started_at', wire_time(g.started_at),
  'completed_at', wire_time(g.completed_at), 'cancelled_at', wire_time(g.cancelled_at),
  'cancel_reason', g.cancel_reason)::text AS item
FROM gigs g WHERE (g.seeker_id = :user OR g.helper_id = :user) AND (:after = '' OR g.id > nullif(:after, '')::uuid)
ORDER BY g.id LIMIT :page

-- name: gigs.export_events
-- The history of the gigs that somebody posted, and of what they did to those of others.
SELECT e.gig_id || ' ' || e.version AS key, json_build_object(
  'gig_id', e.gig_id, 'version', e.version, 'action', e.action, 'by_me', coalesce(e.actor_id = :user, false),
  'from_status', e.from_status, 'to_status', e.to_status, 'reason', e.reason, 'at', wire_time(e.at))::text AS item
FROM (SELECT id FROM gigs WHERE seeker_id = :user
      UNION SELECT gig_id FROM gig_assignments WHERE helper_id = :user) g
JOIN gig_events e ON e.gig_id = g.id
JOIN gigs posted ON posted.id = e.gig_id
WHERE (posted.seeker_id = :user OR e.actor_id = :user)
  AND (:after = '' OR (e.gig_id, e.version) > (nullif(split_part(:after, ' ', 1), '')::uuid,
                                               nullif(split_part(:after, ' ', 2), '')::bigint))
ORDER BY e.gig_id, e.version LIMIT :page

-- name: gigs.export_assignments
-- The gigs that somebody accepted, and until when they had them.
SELECT a.gig_id || ' ' || extract(epoch FROM a.accepted_at) AS key, json_build_object(
  'gig_id', a.gig_id, 'accepted_at', wire_time(a.accepted_at), 'ended_at', wire_time(a.ended_at))::text AS item
FROM gig_assignments a
WHERE a.helper_id = :user
  AND (:after = '' OR (a.gig_id, extract(epoch FROM a.accepted_at)) > (nullif(split_part(:after, ' ', 1), '')::uuid,
                                                                       nullif(split_part(:after, ' ', 2), '')::numeric))
ORDER BY a.gig_id, a.accepted_at LIMIT :page

-- name: gigs.is_open
-- Whether somebody is a side of a gig that has not ended.
SELECT EXISTS (
  SELECT 1 FROM gigs WHERE seeker_id = :user_id AND status IN ('PENDING', 'ACCEPTED', 'IN_PROGRESS')
  UNION ALL
  SELECT 1 FROM gigs WHERE helper_id = :user_id AND status IN ('PENDING', 'ACCEPTED', 'IN_PROGRESS')) AS open

-- name: gigs.erase
-- What the gigs of somebody say and where they were, a bite at a time. Title, budget and times stay: they are the other
-- side's record too.
UPDATE gigs SET description = '[deleted]', terms = '{}', location = public_location, address_text = NULL,
  image_urls = '{}', cancel_reason = NULL, updated_at = statement_timestamp(), version = version + 1
WHERE id IN (SELECT id FROM gigs WHERE seeker_id = :user_id AND (description <> '[deleted]' OR terms <> '{}') LIMIT 500)

-- fragment: message
  m.room_id, m.seq, m.id, m.sender_id, m.type, m.content, m.image_url, m.client_id, m.created_at

-- fragment: blocked
  (EXISTS (SELECT 1 FROM blocks WHERE blocker_id = r.seeker_id AND blocked_id = r.helper_id)
   OR EXISTS (SELECT 1 FROM blocks WHERE blocker_id = r.helper_id AND blocked_id = r.seeker_id))

-- fragment: room
  r.id, r.gig_id, r.gig_title, r.is_active, @blocked@ AS silenced, r.last_seq, r.created_at, r.updated_at,
  r.seeker_id, s.name AS seeker_name, s.photo_url AS seeker_photo_url, s.reputation_score AS seeker_reputation_score,
  s.total_reviews AS seeker_total_reviews, sp.last_read_seq AS seeker_read_seq, sp.last_read_at AS seeker_read_at,
  r.helper_id, h.name AS helper_name, h.photo_url AS helper_photo_url, h.reputation_score AS helper_reputation_score,
  h.total_reviews AS helper_total_reviews, hp.last_read_seq AS helper_read_seq, hp.last_read_at AS helper_read_at,
  m.id AS message_id, m.sender_id AS message_sender_id, m.type AS message_type, m.content AS message_content,
  m.image_url AS message_image_url, m.client_id AS message_client_id, m.created_at AS message_created_at

-- fragment: sides
  -- One by one, as primary keys: behind OFFSET 0 no guess at the number of rows makes a scan of all users of it.
  CROSS JOIN LATERAL (SELECT * FROM users WHERE id = r.seeker_id OFFSET 0) s
  CROSS JOIN LATERAL (SELECT * FROM users WHERE id = r.helper_id OFFSET 0) h
  CROSS JOIN LATERAL (SELECT * FROM chat_participants WHERE room_id = r.id AND user_id = r.seeker_id OFFSET 0) sp
  CROSS JOIN LATERAL (SELECT * FROM chat_participants WHERE room_id = r.id AND user_id = r.helper_id OFFSET 0) hp
  CROSS JOIN LATERAL (SELECT * FROM chat_messages WHERE room_id = r.id AND seq = r.last_seq OFFSET 0) m

-- fragment: system_message
  message AS (
    INSERT INTO chat_messages (room_id, seq, id, type, content, created_at)
    SELECT id, last_seq, :message_id, 'SYSTEM', :content, updated_at FROM room RETURNING room_id, seq)
  INSERT INTO outbox (kind, topic, number) SELECT 'chat.message', room_id, seq FROM message

-- name: chat.send
-- A message in one round trip: the room's row gives the number and keeps the order, and everything else is made of what
-- it returns, the event's own number too, which therefore is drawn under the room's lock. Whoever sends has read what
-- came before. No row: not a side, closed, blocked, or sent before. Times are the clock's under the lock, and never go
-- back.
WITH room AS (
  UPDATE chat_rooms r SET last_seq = last_seq + 1, updated_at = greatest(clock_timestamp(), updated_at)
  WHERE id = :room_id AND is_active AND :sender_id IN (seeker_id, helper_id) AND NOT @blocked@
    AND NOT EXISTS (SELECT 1 FROM chat_messages m
                    WHERE m.room_id = :room_id AND m.sender_id = :sender_id AND m.client_id = :client_id)
  RETURNING id, last_seq, updated_at),
message AS (
  INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, image_url, client_id, created_at)
  SELECT id, last_seq, :id, :sender_id, :type, :content, :image_url, :client_id, updated_at FROM room
  RETURNING room_id, seq, created_at),
marker AS (
  UPDATE chat_participants p SET last_read_seq = message.seq, last_read_at = message.created_at
  FROM message WHERE p.room_id = message.room_id AND p.user_id = :sender_id AND p.last_read_seq < message.seq),
event AS (INSERT INTO outbox (kind, topic, number) SELECT 'chat.message', room_id, seq FROM message)
SELECT seq, created_at FROM message

-- name: chat.sent_before
-- Why nothing was sent: no row for who is no side of the room, else whether it is open and the message with this
-- client_id, if it is stored already. To both sides of a block it looks closed.
SELECT r.is_active AND NOT @blocked@ AS is_active, m.seq, m.id, m.type, m.content, m.image_url, m.created_at
FROM chat_rooms r
LEFT JOIN chat_messages m ON m.room_id = r.id AND m.sender_id = :sender_id AND m.client_id = :client_id
WHERE r.id = :room_id AND :sender_id IN (r.seeker_id, r.helper_id)

-- name: chat.open
-- The room of a gig and its helper, made or opened again, with both sides and the message that says so.
WITH room AS (
  INSERT INTO chat_rooms AS r (id, gig_id, gig_title, seeker_id, helper_id, last_seq, created_at, updated_at)
  VALUES (:id, :gig_id, :gig_title, :seeker_id, :helper_id, 1, statement_timestamp(), statement_timestamp())
  ON CONFLICT (gig_id, helper_id) DO UPDATE SET is_active = true, gig_title = excluded.gig_title,
    last_seq = r.last_seq + 1, updated_at = greatest(clock_timestamp(), r.updated_at)
  RETURNING r.id, r.last_seq, r.updated_at),
people AS (
  INSERT INTO chat_participants (room_id, user_id)
  SELECT room.id, side.user_id FROM room CROSS JOIN (VALUES (:seeker_id::uuid), (:helper_id)) AS side (user_id)
  ON CONFLICT (room_id, user_id) DO NOTHING),
@system_message@

-- name: chat.tell
-- What happened to the gig, told in the room that is open for it, which it may close.
WITH room AS (
  UPDATE chat_rooms SET is_active = NOT :close, last_seq = last_seq + 1,
    updated_at = greatest(clock_timestamp(), updated_at)
  WHERE gig_id = :gig_id AND is_active RETURNING id, last_seq, updated_at),
@system_message@

-- name: chat.room
-- One room, for a side of it.
SELECT @room@ FROM chat_rooms r @sides@ WHERE r.id = :room_id AND :viewer IN (r.seeker_id, r.helper_id)

-- name: chat.is_side
-- Who may see a picture: whoever is a side of a room it was sent to, closed or not.
SELECT EXISTS (SELECT 1 FROM chat_rooms WHERE id = ANY (:room_ids) AND :user_id IN (seeker_id, helper_id))

-- name: chat.rooms
-- The caller's rooms, most recently active first. The order of all pages is the order when the first was read: the time
-- of a room that was active since is looked up among its messages, so that no page repeats or skips one.
SELECT @room@, r.active_at, r.as_of FROM (
  SELECT r.*, seen.as_of, activity.active_at
  FROM (SELECT coalesce(:as_of::timestamptz, clock_timestamp()) AS as_of) seen
  CROSS JOIN chat_participants p JOIN chat_rooms r ON r.id = p.room_id
  CROSS JOIN LATERAL (
    SELECT CASE WHEN r.updated_at <= seen.as_of THEN r.updated_at
                ELSE (SELECT m.created_at FROM chat_messages m WHERE m.room_id = r.id AND m.created_at <= seen.as_of
                      ORDER BY m.seq DESC LIMIT 1) END AS active_at) activity
  WHERE p.user_id = :viewer AND (activity.active_at, r.id) < (:before, :before_id)
  ORDER BY activity.active_at DESC, r.id DESC LIMIT :page) r @sides@
ORDER BY r.active_at DESC, r.id DESC

-- name: chat.newest
-- The newest messages before a number, for a side of the room; numbers have no gaps, so a page is a range of the primary
-- key wherever it lies. A room always has a message, but a range may be empty: then one row tells of the room alone.
SELECT r.last_seq, @message@ FROM chat_rooms r LEFT JOIN LATERAL (
  SELECT * FROM (SELECT * FROM chat_messages WHERE room_id = :room_id AND seq < least(:before_seq, r.last_seq + 1)
                 ORDER BY seq DESC LIMIT :page) page ORDER BY seq) m ON true
WHERE r.id = :room_id AND :viewer IN (r.seeker_id, r.helper_id)

-- name: chat.after
-- The same for the oldest messages after a number.
SELECT r.last_seq, @message@ FROM chat_rooms r LEFT JOIN LATERAL (
  SELECT * FROM chat_messages WHERE room_id = :room_id AND seq > :after_seq ORDER BY seq LIMIT :page) m ON true
WHERE r.id = :room_id AND :viewer IN (r.seeker_id, r.helper_id)

-- name: chat.missed
-- What a connection that joins has missed: the newest of it, as many as fit into :size bytes, and one at least.
SELECT r.last_seq, @blocked@ AS silenced, @message@ FROM chat_rooms r LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT *, sum(octet_length(content) + 250) OVER (ORDER BY seq DESC) AS size
    FROM (SELECT * FROM chat_messages WHERE room_id = :room_id AND seq > :after_seq ORDER BY seq DESC LIMIT :page) page
  ) sized WHERE sized.size <= :size OR sized.seq = r.last_seq ORDER BY seq) m ON true
WHERE r.id = :room_id AND :viewer IN (r.seeker_id, r.helper_id)

-- name: chat.find_message
-- By its id alone, if it is in one of the viewer's rooms. Behind OFFSET 0 it is the id that finds it, and no guess at how
-- few messages somebody has.
SELECT @message@ FROM (SELECT * FROM chat_messages WHERE id = :id OFFSET 0) m
WHERE EXISTS (SELECT 1 FROM chat_participants WHERE room_id = m.room_id AND user_id = :viewer)

-- name: chat.of_pairs
-- The rooms that two people have together, and whether a block silences them now.
SELECT DISTINCT r.id, @blocked@ AS silenced
FROM unnest(:ones::uuid[], :others::uuid[]) AS pair (one, other) JOIN chat_participants p ON p.user_id = pair.one
JOIN chat_rooms r ON r.id = p.room_id AND pair.other IN (r.seeker_id, r.helper_id)

-- name: chat.messages
-- What events of the outbox stand for: a look's messages at once.
SELECT @message@ FROM unnest(:room_ids::uuid[], :seqs::bigint[]) AS wanted (room_id, seq)
CROSS JOIN LATERAL (SELECT * FROM chat_messages WHERE room_id = wanted.room_id AND seq = wanted.seq OFFSET 0) m

-- name: chat.mark_read
-- A side's marker, forward only and never past the last message; others hear of it only when it moved.
WITH moved AS (
  UPDATE chat_participants p SET last_read_seq = least(:seq, r.last_seq), last_read_at = clock_timestamp()
  FROM chat_rooms r
  WHERE r.id = p.room_id AND p.room_id = :room_id AND p.user_id = :user_id AND p.last_read_seq < least(:seq, r.last_seq)
  RETURNING p.room_id, p.user_id, p.last_read_seq),
event AS (INSERT INTO outbox (kind, topic, number, note)
          SELECT 'chat.read', room_id, last_read_seq, user_id::text FROM moved)
SELECT coalesce(moved.last_read_seq, p.last_read_seq) AS seq, moved.room_id IS NOT NULL AS moved
FROM chat_participants p LEFT JOIN moved ON true WHERE p.room_id = :room_id AND p.user_id = :user_id

-- name: chat.export_rooms
-- The rooms that somebody is a side of, with how far they have read.
SELECT r.id::text AS key, json_build_object(
  'id', r.id, 'gig_id', r.gig_id, 'gig_title', r.gig_title, 'is_active', r.is_active, 'last_seq', r.last_seq,
  'last_read_seq', p.last_read_seq, 'last_read_at', wire_time(p.last_read_at), 'created_at', wire_time(r.created_at),
  'updated_at', wire_time(r.updated_at))::text AS item
FROM chat_participants p JOIN chat_rooms r ON r.id = p.room_id
WHERE p.user_id = :user AND (:after = '' OR r.id > nullif(:after, '')::uuid) ORDER BY r.id LIMIT :page

-- name: chat.export_messages
-- What the person said; what was said to them is the other's.
SELECT m.room_id || ' ' || m.seq AS key, json_build_object(
  'room_id', m.room_id, 'seq', m.seq, 'id', m.id, 'type', m.type, 'content', m.content, 'image_url', m.image_url,
  'timestamp', wire_time(m.created_at))::text AS item
FROM chat_participants p JOIN chat_messages m ON m.room_id = p.room_id
WHERE p.user_id = :user AND m.sender_id = :user
  AND (:after = '' OR (m.room_id, m.seq) > (nullif(split_part(:after, ' ', 1), '')::uuid,
                                            nullif(split_part(:after, ' ', 2), '')::bigint))
ORDER BY m.room_id, m.seq LIMIT :page

-- name: chat.lengths
-- Somebody's rooms, and how many messages each has.
SELECT r.id, r.last_seq FROM chat_participants p JOIN chat_rooms r ON r.id = p.room_id WHERE p.user_id = :user_id

-- name: chat.erase
-- What somebody said in some stretches of rooms; that they said something stays, so that numbers have no gaps.
UPDATE chat_messages m SET type = 'TEXT', content = '[deleted]', image_url = NULL, client_id = NULL
FROM unnest(:room_ids::uuid[], :after_seqs::bigint[], :last_seqs::bigint[]) AS part (room_id, after_seq, last_seq)
WHERE m.room_id = part.room_id AND m.seq > part.after_seq AND m.seq <= part.last_seq AND m.sender_id = :user_id

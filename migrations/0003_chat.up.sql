-- Chat: a room for each pair of a gig and a helper who accepted it, its messages, and how far each side has read.

CREATE TABLE chat_rooms (
  id          uuid PRIMARY KEY,
  gig_id      uuid NOT NULL REFERENCES gigs,
  gig_title   text NOT NULL,
  seeker_id   uuid NOT NULL REFERENCES users,
  helper_id   uuid NOT NULL REFERENCES users,
  is_active   boolean NOT NULL DEFAULT true,
  last_seq    bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT chat_rooms_two_sides CHECK (seeker_id <> helper_id),
  CONSTRAINT chat_rooms_one_a_helper UNIQUE (gig_id, helper_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX chat_rooms_one_active ON chat_rooms (gig_id) WHERE is_active;
COMMENT ON TABLE chat_rooms IS 'no index on last_seq or updated_at: they change with every message, and stay HOT updates';
COMMENT ON COLUMN chat_rooms.gig_title IS 'as it was when the helper accepted; a gig is not changed after that';
COMMENT ON COLUMN chat_rooms.last_seq IS 'drawn under the row''s lock, so messages count 1, 2, 3 without gaps';
COMMENT ON COLUMN chat_rooms.updated_at IS 'time of the last message';

CREATE TABLE chat_participants (
  room_id        uuid NOT NULL REFERENCES chat_rooms ON DELETE CASCADE,
  user_id        uuid NOT NULL REFERENCES users,
  last_read_seq  bigint NOT NULL DEFAULT 0 CHECK (last_read_seq >= 0),
  last_read_at   timestamptz,
  PRIMARY KEY (room_id, user_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX chat_participants_of_user ON chat_participants (user_id);
COMMENT ON COLUMN chat_participants.last_read_seq IS 'only ever grows; whoever sends has read what came before';

-- Whoever adds a message holds its room's row and is one of its sides, by the statement itself: foreign keys would look
-- both up once more for every message.
CREATE TABLE chat_messages (
  room_id     uuid NOT NULL,
  seq         bigint NOT NULL CHECK (seq >= 1),
  id          uuid NOT NULL,
  sender_id   uuid,
  type        text NOT NULL CHECK (type IN ('TEXT', 'IMAGE', 'SYSTEM')),
  content     text NOT NULL,
  image_url   text,
  client_id   uuid,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (room_id, seq),
  CONSTRAINT chat_messages_sender CHECK ((sender_id IS NULL) = (type = 'SYSTEM')),
  CONSTRAINT chat_messages_image CHECK ((image_url IS NOT NULL) = (type = 'IMAGE')),
  CONSTRAINT chat_messages_not_empty CHECK (content <> '' OR type = 'IMAGE')
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE UNIQUE INDEX chat_messages_client_id ON chat_messages (room_id, sender_id, client_id) WHERE client_id IS NOT NULL;
COMMENT ON COLUMN chat_messages.client_id IS 'made by the sender: a message sent again is found by it';

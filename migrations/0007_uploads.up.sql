-- Uploads: pictures that people keep here, and what refers to them. The bytes lie in the store, under the id.

CREATE TABLE uploads (
  id               uuid PRIMARY KEY,
  owner_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  category         text NOT NULL CHECK (category IN ('PROFILE', 'GIG', 'CHAT')),
  content_type     text NOT NULL CHECK (content_type IN ('image/jpeg', 'image/png', 'image/webp')),
  width            int NOT NULL CHECK (width > 0),
  height           int NOT NULL CHECK (height > 0),
  size             bigint NOT NULL CHECK (size > 0),
  thumbnail_size   bigint NOT NULL CHECK (thumbnail_size > 0),
  sha256           text NOT NULL CHECK (length(sha256) = 64),
  unused_since     timestamptz DEFAULT now(),
  created_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN uploads.unused_since IS 'null while something refers to it; what nothing refers to is collected';
COMMENT ON COLUMN uploads.sha256 IS 'of the picture as it is served, in hex';
CREATE INDEX uploads_of_owner ON uploads (owner_id, id);
CREATE INDEX uploads_unused ON uploads (unused_since) WHERE unused_since IS NOT NULL;

-- A gig, a chat room or a person: whose picture it is. Written under the lock of the upload's row.
CREATE TABLE upload_uses (
  upload_id   uuid NOT NULL REFERENCES uploads ON DELETE CASCADE,
  subject_id  uuid NOT NULL,
  PRIMARY KEY (upload_id, subject_id)
);
CREATE INDEX upload_uses_of_subject ON upload_uses (subject_id);

-- What each person keeps in all: the row that takes the turns of their uploads, so that a quota holds to the byte.
CREATE TABLE upload_sums (
  user_id  uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
  files    bigint NOT NULL CHECK (files >= 0),
  bytes    bigint NOT NULL CHECK (bytes >= 0)
);

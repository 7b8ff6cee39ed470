-- Accounts, sessions, gigs on the map, and what every room uses: idempotency keys and timers.
-- PostGIS is made before migrations run, since it needs a superuser.

CREATE TABLE users (
  id                uuid PRIMARY KEY,
  email             text NOT NULL CONSTRAINT users_email_key UNIQUE,
  email_verified    boolean NOT NULL DEFAULT false,
  password_hash     text NOT NULL,
  role              text NOT NULL DEFAULT 'USER' CHECK (role IN ('USER', 'ADMIN')),
  name              text,
  photo_url         text,
  bio               text,
  phone_number      text,
  line_id           text,
  other_contact     text,
  is_available      boolean NOT NULL DEFAULT false,
  is_verified       boolean NOT NULL DEFAULT false,
  is_profile_setup  boolean NOT NULL DEFAULT false,
  reputation_score  double precision NOT NULL DEFAULT 5.0 CHECK (reputation_score BETWEEN 0 AND 5),
  total_reviews     integer NOT NULL DEFAULT 0 CHECK (total_reviews >= 0),
  completed_gigs    integer NOT NULL DEFAULT 0 CHECK (completed_gigs >= 0),
  fixed_location    geography(Point, 4326),
  public_location   geography(Point, 4326),
  address_text      text,
  district          text,
  province          text,
  postal_code       text,
  suspended_at      timestamptz,
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  version           bigint NOT NULL DEFAULT 1,
  CONSTRAINT users_location_whole CHECK ((fixed_location IS NULL) = (public_location IS NULL)),
  CONSTRAINT users_location_required CHECK (NOT is_available OR fixed_location IS NOT NULL)
);
COMMENT ON COLUMN users.public_location IS 'where strangers are told that the Helper is: the fixed location, blurred';
CREATE INDEX users_available_place ON users USING gist (public_location) WHERE is_available;
CREATE INDEX users_place ON users USING gist (public_location) WHERE public_location IS NOT NULL;

CREATE TABLE sessions (
  id            uuid PRIMARY KEY,
  user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  counter       bigint NOT NULL DEFAULT 1 CHECK (counter >= 1),
  user_agent    text,
  ip            text,
  created_at    timestamptz NOT NULL DEFAULT now(),
  last_used_at  timestamptz NOT NULL DEFAULT now(),
  expires_at    timestamptz NOT NULL,
  ended_at      timestamptz,
  end_reason    text
);
COMMENT ON COLUMN sessions.counter IS 'number of the newest refresh token; the token itself is computed, never stored';
CREATE INDEX sessions_of_user ON sessions (user_id, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Number of one of the 2^20 by 2^20 cells of the map: the digits of y and x to base 4 by turns, coarsest first. So every
-- cell of an even level is one range of keys.
CREATE FUNCTION gig_cell_key(y integer, x integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (y >> 18 & 3)::bigint << 2 | (x >> 18 & 3)
      << 2 | (y >> 16 & 3) << 2 | (x >> 16 & 3) << 2 | (y >> 14 & 3) << 2 | (x >> 14 & 3)
      << 2 | (y >> 12 & 3) << 2 | (x >> 12 & 3) << 2 | (y >> 10 & 3) << 2 | (x >> 10 & 3)
      << 2 | (y >> 8 & 3) << 2 | (x >> 8 & 3) << 2 | (y >> 6 & 3) << 2 | (x >> 6 & 3)
      << 2 | (y >> 4 & 3) << 2 | (x >> 4 & 3) << 2 | (y >> 2 & 3) << 2 | (x >> 2 & 3)
      << 2 | (y & 3) << 2 | (x & 3) $$;

CREATE TABLE gigs (
  id               uuid PRIMARY KEY,
  seeker_id        uuid NOT NULL REFERENCES users,
  helper_id        uuid REFERENCES users,
  title            text NOT NULL,
  description      text NOT NULL,
  category         text,
  duration_hours   double precision NOT NULL
                   CHECK (duration_hours BETWEEN 0.5 AND 24 AND duration_hours * 2 = floor(duration_hours * 2)),
  budget           bigint NOT NULL CHECK (budget BETWEEN 0 AND 1000000000),
  currency         text NOT NULL DEFAULT 'THB' CHECK (currency = 'THB'),
  location         geography(Point, 4326) NOT NULL,
  public_location  geography(Point, 4326) NOT NULL,
  cell_x           integer NOT NULL CHECK (cell_x BETWEEN 0 AND 1048575),
  cell_y           integer NOT NULL CHECK (cell_y BETWEEN 0 AND 1048575),
  cell_key         bigint NOT NULL GENERATED ALWAYS AS (gig_cell_key(cell_y, cell_x)) STORED,
  address_text     text,
  image_urls       text[] NOT NULL DEFAULT '{}' CHECK (cardinality(image_urls) <= 5),
  terms            text[] NOT NULL DEFAULT '{}',
  status           text NOT NULL DEFAULT 'PENDING'
                   CHECK (status IN ('PENDING', 'ACCEPTED', 'IN_PROGRESS', 'COMPLETED', 'CANCELLED')),
  starts_at        timestamptz,
  expires_at       timestamptz,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  accepted_at      timestamptz,
  started_at       timestamptz,
  completed_at     timestamptz,
  cancelled_at     timestamptz,
  cancel_reason    text,
  version          bigint NOT NULL DEFAULT 1,
  CONSTRAINT gigs_own_gig CHECK (helper_id <> seeker_id),
  CONSTRAINT gigs_helper_fits_status CHECK (
    CASE status WHEN 'PENDING' THEN helper_id IS NULL WHEN 'CANCELLED' THEN true ELSE helper_id IS NOT NULL END)
) WITH (fillfactor = 90);
COMMENT ON COLUMN gigs.public_location IS 'what others than the two sides are shown: the location, blurred';
COMMENT ON COLUMN gigs.cell_x IS 'column of the public location among 2^20 web-mercator cells; coarser cells by shifting';
COMMENT ON COLUMN gigs.terms IS 'search terms of title and description, made by core/text.hpp';
CREATE INDEX gigs_open_place ON gigs USING gist (public_location) WHERE status = 'PENDING';
CREATE INDEX gigs_other_place ON gigs USING gist (public_location) WHERE status <> 'PENDING';
CREATE INDEX gigs_cell ON gigs (status, cell_key);
CREATE INDEX gigs_open_category ON gigs (category, cell_key) WHERE status = 'PENDING';
CREATE INDEX gigs_newest ON gigs (status, created_at, id);
CREATE INDEX gigs_budget ON gigs (status, budget, id);
CREATE INDEX gigs_terms ON gigs USING gin (terms);
CREATE INDEX gigs_of_seeker ON gigs (seeker_id, created_at, id);
CREATE INDEX gigs_of_helper ON gigs (helper_id, created_at, id) WHERE helper_id IS NOT NULL;

-- The state machine of src/rooms/gigs/lifecycle.hpp once more, so that no statement of any client of this database can
-- break it; a test holds the two together. A gig that has a helper keeps that helper until it is pending again.
CREATE FUNCTION gigs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
       ('PENDING', 'ACCEPTED'), ('PENDING', 'CANCELLED'),
       ('ACCEPTED', 'PENDING'), ('ACCEPTED', 'IN_PROGRESS'), ('ACCEPTED', 'CANCELLED'),
       ('IN_PROGRESS', 'COMPLETED'), ('IN_PROGRESS', 'CANCELLED')) THEN
    RAISE EXCEPTION 'gig % cannot go from % to %', OLD.id, OLD.status, NEW.status
      USING ERRCODE = 'check_violation', CONSTRAINT = 'gigs_transition';
  END IF;
  IF OLD.helper_id IS NOT NULL AND NEW.helper_id IS DISTINCT FROM OLD.helper_id AND NEW.status <> 'PENDING' THEN
    RAISE EXCEPTION 'gig % has a helper', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'gigs_one_helper';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER gigs_guard BEFORE UPDATE OF status, helper_id ON gigs
  FOR EACH ROW EXECUTE FUNCTION gigs_guard();

-- Who had the gig, and until when. The unique index is the last word on "one helper a gig".
CREATE TABLE gig_assignments (
  gig_id       uuid NOT NULL REFERENCES gigs ON DELETE CASCADE,
  helper_id    uuid NOT NULL REFERENCES users,
  accepted_at  timestamptz NOT NULL DEFAULT now(),
  ended_at     timestamptz,
  PRIMARY KEY (gig_id, accepted_at)
);
CREATE UNIQUE INDEX gig_assignments_one_active ON gig_assignments (gig_id) WHERE ended_at IS NULL;
CREATE INDEX gig_assignments_of_helper ON gig_assignments (helper_id);

-- The gig's history; `version` is the gig's after the event, so a gig has each once and in order.
CREATE TABLE gig_events (
  gig_id       uuid NOT NULL REFERENCES gigs ON DELETE CASCADE,
  version      bigint NOT NULL,
  action       text NOT NULL,
  actor_id     uuid REFERENCES users,
  from_status  text,
  to_status    text NOT NULL,
  reason       text,
  at           timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (gig_id, version)
);

COMMENT ON TABLE gig_events IS 'append-only: the application can add to the history and never change it';

-- How many gigs are open in each cell of the map, at every second level from the whole world (0) to some 38 m (20).
-- Sums are in millionths of a degree, so that adding and taking away leaves no residue.
CREATE TABLE gig_cells (
  level          smallint NOT NULL CHECK (level BETWEEN 0 AND 20 AND level % 2 = 0),
  y              integer NOT NULL,
  x              integer NOT NULL,
  count          integer NOT NULL,
  latitude_sum   bigint NOT NULL,
  longitude_sum  bigint NOT NULL,
  PRIMARY KEY (level, y, x)
) WITH (fillfactor = 70);
CREATE INDEX gig_cells_empty ON gig_cells (level) WHERE count = 0;

-- A change of an open gig appends one row here, in the gig's own transaction: were the cells themselves updated, every
-- posting would queue for the lock of the one row that is the world. A job folds these into the cells; readers add both.
CREATE TABLE gig_cell_changes (
  x          integer NOT NULL,
  y          integer NOT NULL,
  latitude   integer NOT NULL,
  longitude  integer NOT NULL,
  change     smallint NOT NULL CHECK (change IN (-1, 1))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

CREATE FUNCTION gigs_count_cell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.status = 'PENDING' THEN
    INSERT INTO gig_cell_changes VALUES (OLD.cell_x, OLD.cell_y,
      round(ST_Y(OLD.public_location::geometry) * 1e6), round(ST_X(OLD.public_location::geometry) * 1e6), -1);
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.status = 'PENDING' THEN
    INSERT INTO gig_cell_changes VALUES (NEW.cell_x, NEW.cell_y,
      round(ST_Y(NEW.public_location::geometry) * 1e6), round(ST_X(NEW.public_location::geometry) * 1e6), 1);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER gigs_count_new_cell AFTER INSERT OR DELETE ON gigs
  FOR EACH ROW EXECUTE FUNCTION gigs_count_cell();
CREATE TRIGGER gigs_count_moved_cell AFTER UPDATE OF status, public_location ON gigs
  FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.cell_x <> NEW.cell_x OR OLD.cell_y <> NEW.cell_y
                     OR OLD.public_location::text <> NEW.public_location::text)
  EXECUTE FUNCTION gigs_count_cell();

-- First answers to requests with an Idempotency-Key, written in the transaction of their effect and kept for 24 h.
CREATE TABLE idempotency_keys (
  user_id      uuid NOT NULL,
  key          text NOT NULL,
  fingerprint  bytea NOT NULL,
  status       integer NOT NULL,
  headers      text NOT NULL,
  body         text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, key)
);
COMMENT ON COLUMN idempotency_keys.user_id IS 'the caller; the nil uuid where there is none';
COMMENT ON COLUMN idempotency_keys.fingerprint IS 'keyed hash of method, path and body: the body itself may hold secrets';
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- Things to do at a time. A row is deleted in the transaction that does them, so each fires once, on one server.
CREATE TABLE timers (
  kind        text NOT NULL,
  subject_id  uuid NOT NULL,
  due_at      timestamptz NOT NULL,
  attempts    integer NOT NULL DEFAULT 0,
  PRIMARY KEY (kind, subject_id)
);
CREATE INDEX timers_due ON timers (due_at);

-- What administrators did: rows are added, never changed.
CREATE TABLE audit_log (
  id          uuid PRIMARY KEY,
  admin_id    uuid NOT NULL REFERENCES users,
  action      text NOT NULL,
  subject_id  uuid,
  details     jsonb NOT NULL DEFAULT '{}',
  at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_subject ON audit_log (subject_id, at);
COMMENT ON TABLE audit_log IS 'append-only: the application can add rows and never change them';

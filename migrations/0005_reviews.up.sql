-- Reviews: what the two sides of a completed gig say of each other, and the exact sums that scores are made from.

CREATE TABLE reviews (
  id           uuid PRIMARY KEY,
  gig_id       uuid NOT NULL REFERENCES gigs,
  reviewer_id  uuid NOT NULL REFERENCES users,
  reviewee_id  uuid NOT NULL REFERENCES users,
  rating       integer NOT NULL CHECK (rating BETWEEN 1 AND 5),
  comment      text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  version      bigint NOT NULL DEFAULT 1,
  CONSTRAINT reviews_once UNIQUE (gig_id, reviewer_id),
  CONSTRAINT reviews_self CHECK (reviewer_id <> reviewee_id)
);
CREATE INDEX reviews_of_reviewee ON reviews (reviewee_id, created_at, id) INCLUDE (rating);
CREATE INDEX reviews_of_reviewer ON reviews (reviewer_id, created_at, id);

ALTER TABLE users
  ADD COLUMN rating_sum bigint NOT NULL DEFAULT 0,
  ADD COLUMN reputation_override double precision CHECK (reputation_override BETWEEN 0 AND 5);
COMMENT ON COLUMN users.rating_sum IS 'of all reviews of this person, of which there are total_reviews';
COMMENT ON COLUMN users.reputation_override IS 'an administrator''s word, which holds until one has the score recomputed';

-- Nobody had a review before this table: another score than that of the beginning is an administrator's.
UPDATE users SET total_reviews = 0 WHERE total_reviews <> 0;
UPDATE users SET reputation_override = reputation_score WHERE reputation_score <> 5;

ALTER TABLE users ADD CONSTRAINT users_ratings_fit CHECK (rating_sum BETWEEN total_reviews AND 5 * total_reviews::bigint);

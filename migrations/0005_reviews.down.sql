ALTER TABLE users DROP CONSTRAINT users_ratings_fit;
UPDATE users SET total_reviews = 0, reputation_score = coalesce(reputation_override, 5)
WHERE total_reviews <> 0 OR reputation_score <> coalesce(reputation_override, 5);
ALTER TABLE users DROP COLUMN reputation_override, DROP COLUMN rating_sum;
DROP TABLE reviews;

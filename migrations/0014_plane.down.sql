DROP INDEX gigs_open_plane;
ALTER TABLE gigs DROP COLUMN plane;

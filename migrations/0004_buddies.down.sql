DROP INDEX gigs_completed_pair;
DROP TABLE blocks;
DROP TABLE buddies;

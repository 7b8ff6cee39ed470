DROP INDEX gigs_open_plane;

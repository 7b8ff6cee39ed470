-- The nearest open gigs are walked in the order of a plane, by a quadtree: it reads some 15 pages fewer than the index of
-- the sphere, whose boxes are of single precision, and compares a few points where that compares whole pages of boxes.
-- Web-mercator in degrees of longitude, latitudes to ±85.05: true in every direction at once, so that the two orders hardly
-- differ nearby (core/nearest.hpp). An expression, since a column would have the whole table written anew.
CREATE INDEX gigs_open_plane ON gigs USING spgist ((point(
  ST_X(public_location::geometry),
  degrees(ln(tan(radians(45 + greatest(-85.05, least(85.05, ST_Y(public_location::geometry))) / 2))))))) WHERE status = 'PENDING';

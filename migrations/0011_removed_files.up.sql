-- Pictures that are gone, but for their files: written by who deletes the row, in the same transaction.

CREATE TABLE removed_files (
  upload_id  uuid PRIMARY KEY
);
COMMENT ON TABLE removed_files IS 'both files of each may still be in the store: removed, and the row with them, while no backup runs';

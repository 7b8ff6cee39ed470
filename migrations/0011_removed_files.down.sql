DROP TABLE removed_files;

DROP TABLE upload_sums;
DROP TABLE upload_uses;
DROP TABLE uploads;

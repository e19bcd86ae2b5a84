-- pre
-- A record is written whole and read whole: taking it apart and compressing it was most of what
-- writing it cost.

ALTER TABLE pharmacy ALTER COLUMN body TYPE json, ALTER COLUMN body SET STORAGE EXTERNAL;

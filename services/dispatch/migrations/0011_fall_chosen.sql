-- pre
-- Whether the patient's answer left the tier, or ended the search there.

ALTER TABLE fall ADD COLUMN chosen boolean NOT NULL DEFAULT false;

-- pre
-- What operations said of a city beside its pack, and what was held back while how much was under way.

ALTER TABLE city ADD COLUMN factors jsonb NOT NULL DEFAULT '[]';

-- Without a step from that moment on nothing is held back any more.
CREATE TABLE pressure (
    city text NOT NULL,
    since timestamptz NOT NULL,
    under_way int NOT NULL,
    step jsonb,
    PRIMARY KEY (city, since)
);

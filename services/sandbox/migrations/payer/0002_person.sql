-- pre
-- Persons with their year and account; a settlement keeps what it used up, so that an undo is exact.

CREATE TABLE person (
    psn_no text PRIMARY KEY,
    insutype text NOT NULL,
    psn_type text NOT NULL,
    balance_fen bigint NOT NULL CHECK (balance_fen >= 0),
    first_used jsonb NOT NULL,
    years jsonb NOT NULL DEFAULT '{}'
);

ALTER TABLE presettlement ADD COLUMN psn_no text REFERENCES person (psn_no);

ALTER TABLE settlement
    ADD COLUMN psn_no text REFERENCES person (psn_no),
    ADD COLUMN year int,
    ADD COLUMN uses jsonb,
    ADD COLUMN settled_at timestamptz;
CREATE INDEX settlement_person ON settlement (psn_no);

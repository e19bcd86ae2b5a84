-- pre
-- Differences with a payer that two persons have given up; a day's movements are found by their time.

CREATE TABLE write_off (
    settlement_id text PRIMARY KEY,
    reason text NOT NULL,
    proposed_by text NOT NULL,
    proposed_at timestamptz NOT NULL,
    approved_by text,
    approved_reason text,
    approved_at timestamptz,
    CHECK (approved_by IS NULL OR approved_by <> proposed_by)
);
CREATE INDEX transfer_day ON transfer (at);

REVOKE DELETE ON write_off FROM claim;

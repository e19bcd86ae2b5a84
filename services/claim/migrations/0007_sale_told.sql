-- pre
-- What the payers have still to be told of: a sale of each settlement, a return of each undone one.

CREATE TABLE sale_due (
    settlement_id text NOT NULL REFERENCES slip (settlement_id),
    back boolean NOT NULL,
    PRIMARY KEY (settlement_id, back)
);

CREATE TABLE sale_told (
    settlement_id text NOT NULL REFERENCES slip (settlement_id),
    back boolean NOT NULL,
    at timestamptz NOT NULL,
    refusal text NOT NULL,
    PRIMARY KEY (settlement_id, back)
);

REVOKE UPDATE, DELETE ON sale_told FROM claim;

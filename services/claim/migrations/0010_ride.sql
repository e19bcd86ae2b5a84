-- pre
-- Which fleet carried the parcel of an attempt, and so earned its fee; a payout may be of one fleet.

CREATE TABLE ride (
    order_id uuid NOT NULL,
    attempt int NOT NULL,
    fleet uuid NOT NULL,
    PRIMARY KEY (order_id, attempt)
);
ALTER TABLE payout ADD COLUMN fleet uuid CHECK (fleet IS NULL OR account = 'courier');

REVOKE UPDATE, DELETE ON ride FROM claim;

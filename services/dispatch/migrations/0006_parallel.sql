-- pre
-- Two offers of an order may wait for an answer at the same time; one alone is ever accepted.

ALTER TABLE offer ADD COLUMN beside boolean NOT NULL DEFAULT false;
DROP INDEX offer_one_standing;
CREATE UNIQUE INDEX offer_two_standing ON offer (order_id, beside)
    WHERE state IN ('open', 'accepted');
CREATE UNIQUE INDEX offer_one_bound ON offer (order_id) WHERE state = 'accepted';

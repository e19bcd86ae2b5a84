-- pre
-- When payers are away by plan, as the packs of their cities say; hours of China.

CREATE TABLE payer_away (
    city text PRIMARY KEY,
    area text NOT NULL,
    -- A list of begins, ends, effective_from, effective_to.
    hours jsonb NOT NULL
);

-- pre
-- What we know of a person's year, and whose settlement is under way: two orders of one person never
-- speak with the payer about the same deductible, ceiling or balance at once. The name is a salted hash.

CREATE TABLE person (
    person text PRIMARY KEY,
    -- The order that settles, undoes or reverses now; nobody else of this person until it is known.
    turn uuid,
    turn_until timestamptz,
    -- Balance before the last settlement that stands, and what it took of it.
    balance_before_fen bigint,
    balance_taken_fen bigint NOT NULL DEFAULT 0
);

CREATE TABLE person_year (
    person text NOT NULL REFERENCES person (person),
    year int NOT NULL,
    -- Used up by now, by pool: what the payer told before our last settlement, and that settlement.
    figures jsonb NOT NULL,
    PRIMARY KEY (person, year)
);

-- Each settlement's part in it, so that an undo gives back exactly that.
CREATE TABLE person_use (
    settlement_id text PRIMARY KEY,
    person text NOT NULL REFERENCES person (person),
    year int NOT NULL,
    order_id uuid NOT NULL,
    uses jsonb NOT NULL,
    undone_at timestamptz
);
CREATE INDEX person_use_person ON person_use (person, year);

-- pre
-- What couriers and patients of broken promises were owed and are paid, by period; each order once.

ALTER TABLE transfer DROP CONSTRAINT transfer_kind_check;
ALTER TABLE transfer ADD CONSTRAINT transfer_kind_check CHECK (kind IN (
    'hold', 'capture', 'settlement', 'undo', 'release', 'refund',
    'made_good', 'courier_fee', 'compensation', 'payout'));
ALTER TABLE entry DROP CONSTRAINT entry_account_check;
ALTER TABLE entry ADD CONSTRAINT entry_account_check CHECK (account IN (
    'patient', 'fund', 'personal_account', 'pharmacy', 'clearing',
    'platform', 'courier', 'compensation', 'paid_out'));

CREATE TABLE payout (
    number uuid PRIMARY KEY,
    account text NOT NULL CHECK (account IN ('courier', 'compensation')),
    first date NOT NULL,
    last date NOT NULL,
    person text NOT NULL,
    count int NOT NULL CHECK (count > 0),
    fen bigint NOT NULL CHECK (fen > 0),
    at timestamptz NOT NULL,
    CHECK (first <= last)
);

-- `earned` is the fee's own transfer, `paid` the one that pays it out.
CREATE TABLE payout_line (
    earned uuid PRIMARY KEY REFERENCES transfer (id),
    number uuid NOT NULL REFERENCES payout (number),
    paid uuid NOT NULL UNIQUE REFERENCES transfer (id)
);
CREATE INDEX payout_line_number ON payout_line (number);

REVOKE UPDATE, DELETE ON payout, payout_line FROM claim;

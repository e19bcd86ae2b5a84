-- pre
-- Whose voucher a token is, and the one order it was presented for.

CREATE TABLE voucher (
    token text PRIMARY KEY,
    psn_no text NOT NULL REFERENCES person (psn_no),
    order_number text NOT NULL
);

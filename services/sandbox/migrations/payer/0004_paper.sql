-- pre
-- What the payer keeps of the messages beside the settlement: sales, online orders, prescriptions.

CREATE TABLE paper (
    family text NOT NULL,
    number text NOT NULL,
    body jsonb NOT NULL,
    PRIMARY KEY (family, number)
);

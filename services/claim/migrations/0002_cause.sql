-- pre
-- Each movement says which outside call and which message brought it about, so that a figure can be
-- walked back. A share may be held anew for one attempt when the payer's figures moved on.

ALTER TABLE transfer
    ADD COLUMN call_ref text NOT NULL DEFAULT '',
    ADD COLUMN caused_by uuid;
ALTER TABLE transfer DROP CONSTRAINT transfer_order_id_attempt_kind_key;
ALTER TABLE transfer ADD UNIQUE (order_id, attempt, kind, call_ref);

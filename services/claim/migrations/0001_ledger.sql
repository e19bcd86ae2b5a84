-- pre
-- Double entry in fen. Nothing is ever changed or deleted: an undo is a transfer of its own.

CREATE TABLE transfer (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    attempt int NOT NULL CHECK (attempt >= 1),
    kind text NOT NULL
        CHECK (kind IN ('hold', 'capture', 'settlement', 'undo', 'release', 'refund')),
    at timestamptz NOT NULL,
    UNIQUE (order_id, attempt, kind)
);

CREATE TABLE entry (
    transfer_id uuid NOT NULL REFERENCES transfer (id),
    account text NOT NULL
        CHECK (account IN ('patient', 'fund', 'personal_account', 'pharmacy', 'clearing')),
    amount_fen bigint NOT NULL CHECK (amount_fen <> 0),
    PRIMARY KEY (transfer_id, account)
);

CREATE FUNCTION transfer_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    checked uuid := (to_jsonb(NEW) ->> TG_ARGV[0])::uuid;
    entries int;
    total bigint;
BEGIN
    SELECT count(*), coalesce(sum(amount_fen), 0) INTO entries, total
    FROM entry WHERE transfer_id = checked;
    IF entries < 2 OR total <> 0 THEN
        RAISE EXCEPTION 'transfer % has % entries that sum to % fen', checked, entries, total
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER transfer_balanced AFTER INSERT ON transfer
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION transfer_sums_to_zero('id');
CREATE CONSTRAINT TRIGGER entry_balanced AFTER INSERT ON entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION transfer_sums_to_zero('transfer_id');

REVOKE UPDATE, DELETE ON transfer, entry FROM claim;

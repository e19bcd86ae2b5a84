-- pre
-- A chain of hashes for each partition: a changed, lost or moved row breaks it.

CREATE TABLE audit (
    partition int NOT NULL CHECK (partition BETWEEN 0 AND 11),
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    tenant_id uuid NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject uuid NOT NULL,
    payload_hash bytea NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (partition, seq)
);

CREATE TABLE audit_head (
    partition int PRIMARY KEY,
    seq bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
) WITH (fillfactor = 20);
INSERT INTO audit_head (partition) SELECT generate_series(0, 11);

CREATE FUNCTION audit_is_final() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are never changed or removed' USING ERRCODE = '42501';
END
$$;
CREATE TRIGGER audit_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_final();

-- The service's role is named after its schema.
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit FROM %I', current_schema());
    EXECUTE format('REVOKE INSERT, DELETE, TRUNCATE ON audit_head FROM %I', current_schema());
END
$$;

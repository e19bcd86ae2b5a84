-- pre
-- What waits to be published, apart from the facts themselves: to mark a fact as published wrote it
-- a second time, body and all its index entries.

CREATE TABLE outbox_open (
    id bigint PRIMARY KEY,
    shard int NOT NULL
);
INSERT INTO outbox_open SELECT id, shard FROM outbox WHERE published_at IS NULL;

-- Whoever adds a fact opens it: nobody can forget to. The path is the schema of this table.
CREATE FUNCTION outbox_opens() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO outbox_open SELECT id, shard FROM added;
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_opens AFTER INSERT ON outbox
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION outbox_opens();

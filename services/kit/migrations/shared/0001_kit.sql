-- pre
-- What the machinery of all services shares: the clock, and the keys of personal data.

-- Simulated time stands still until it is stepped; a null speed means as fast as can be.
CREATE TABLE clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    mode text NOT NULL DEFAULT 'real' CHECK (mode IN ('real', 'simulated')),
    sim_now timestamptz,
    speed real CHECK (speed > 0),
    CHECK (mode = 'real' OR sim_now IS NOT NULL)
);
INSERT INTO clock DEFAULT VALUES;
GRANT SELECT ON clock TO yaoda_service;

-- Stable, so that a condition on it can use an index: one statement has one time.
CREATE FUNCTION kit.now() RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = kit, pg_temp AS $$
    SELECT CASE mode WHEN 'simulated' THEN sim_now ELSE clock_timestamp() END FROM kit.clock
$$;
REVOKE ALL ON FUNCTION kit.now() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kit.now() TO yaoda_service;

-- One data key an order and purpose, wrapped by the master key, which the database never sees.
-- An erased key keeps its row, so that nothing is ever sealed for that order again.
CREATE TABLE data_key (
    key_id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    purpose text NOT NULL,
    wrapped bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at timestamptz,
    UNIQUE (order_id, purpose),
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL))
);

CREATE TABLE purpose_grant (
    role name NOT NULL,
    purpose text NOT NULL,
    may_open boolean NOT NULL,
    may_seal boolean NOT NULL,
    PRIMARY KEY (role, purpose)
);
INSERT INTO purpose_grant (role, purpose, may_open, may_seal) VALUES
    ('prescription', 'review', true, true),
    ('prescription', 'payer', false, true),
    ('prescription', 'label', false, true),
    ('prescription', 'courier', false, true),
    ('review', 'review', true, false),
    ('claim', 'payer', true, false),
    ('delivery', 'label', true, false),
    ('delivery', 'courier', true, false);

-- The functions run as the owner of the keys and look at who logged in, not at the current role.
-- They answer with a state instead of raising: an error would end the caller's transaction.

CREATE FUNCTION kit.sealing_keys(
    order_ids uuid[], purposes text[], key_ids uuid[], wrapped_keys bytea[]
) RETURNS TABLE (order_id uuid, purpose text, key_id uuid, wrapped bytea, verdict text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kit, pg_temp AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO data_key (order_id, purpose, key_id, wrapped)
    SELECT u.order_id, u.purpose, u.key_id, u.wrapped
    FROM unnest(order_ids, purposes, key_ids, wrapped_keys)
         AS u(order_id, purpose, key_id, wrapped)
    JOIN purpose_grant g ON g.role = session_user AND g.purpose = u.purpose AND g.may_seal
    ORDER BY u.order_id, u.purpose
    ON CONFLICT (order_id, purpose) DO NOTHING;
    RETURN QUERY
    SELECT u.order_id, u.purpose, k.key_id, k.wrapped,
           CASE WHEN k.key_id IS NULL OR g.role IS NULL THEN 'not_allowed'
                WHEN k.wrapped IS NULL THEN 'erased' ELSE 'ok' END
    FROM unnest(order_ids, purposes) AS u(order_id, purpose)
    LEFT JOIN purpose_grant g ON g.role = session_user AND g.purpose = u.purpose AND g.may_seal
    LEFT JOIN data_key k
           ON k.order_id = u.order_id AND k.purpose = u.purpose AND g.role IS NOT NULL;
END
$$;

CREATE FUNCTION kit.opening_keys(key_ids uuid[])
RETURNS TABLE (key_id uuid, order_id uuid, purpose text, wrapped bytea, verdict text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kit, pg_temp AS $$
    SELECT k.key_id, k.order_id, k.purpose,
           CASE WHEN g.role IS NOT NULL THEN k.wrapped END,
           CASE WHEN g.role IS NULL THEN 'not_allowed'
                WHEN k.wrapped IS NULL THEN 'erased' ELSE 'ok' END
    FROM data_key k
    LEFT JOIN purpose_grant g ON g.role = session_user AND g.purpose = k.purpose AND g.may_open
    WHERE k.key_id = ANY (key_ids)
$$;

-- Who may seal a purpose may erase it, and so may the administrator. Returns the keys erased,
-- or null when the caller may not.
CREATE FUNCTION kit.forget_keys(forgotten uuid) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kit, pg_temp AS $$
DECLARE
    administrator boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = session_user);
    erased int;
BEGIN
    IF NOT administrator AND EXISTS (
        SELECT FROM data_key k
        WHERE k.order_id = forgotten AND k.wrapped IS NOT NULL AND NOT EXISTS (
            SELECT FROM purpose_grant g
            WHERE g.role = session_user AND g.purpose = k.purpose AND g.may_seal)
    ) THEN
        RETURN NULL;
    END IF;
    UPDATE data_key k SET wrapped = NULL, erased_at = clock_timestamp()
    WHERE k.order_id = forgotten AND k.wrapped IS NOT NULL;
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END
$$;

REVOKE ALL ON FUNCTION kit.sealing_keys(uuid[], text[], uuid[], bytea[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION kit.opening_keys(uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION kit.forget_keys(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kit.sealing_keys(uuid[], text[], uuid[], bytea[]) TO yaoda_service;
GRANT EXECUTE ON FUNCTION kit.opening_keys(uuid[]) TO yaoda_service;
GRANT EXECUTE ON FUNCTION kit.forget_keys(uuid) TO yaoda_service;

-- pre
-- Every traceability code that lies in a parcel, was sold, or came back from the road.

-- A row without an order is a code that was scanned and refused: it is free. It is kept because
-- inserting it is how two parcels that scan the same new code wait for each other.
CREATE TABLE trace_code (
    code text PRIMARY KEY CHECK (code ~ '^[0-9]{20}$'),
    tenant_id uuid,
    order_id uuid,
    attempt int,
    line_id uuid,
    state text CHECK (state IN ('sealed', 'sold', 'returned')),
    sealed_at timestamptz,
    sold_at timestamptz,
    returned_at timestamptz,
    CHECK ((order_id IS NULL) = (state IS NULL)),
    CHECK (order_id IS NULL OR (attempt >= 1 AND line_id IS NOT NULL AND tenant_id IS NOT NULL)),
    CHECK (state IS DISTINCT FROM 'sealed' OR sealed_at IS NOT NULL),
    CHECK (state IS DISTINCT FROM 'sold' OR sold_at IS NOT NULL),
    CHECK (state IS DISTINCT FROM 'returned' OR returned_at IS NOT NULL)
) WITH (fillfactor = 85);
CREATE INDEX trace_code_order ON trace_code (order_id, attempt) WHERE order_id IS NOT NULL;

-- name: add_shortages
-- An order that keeps a place stands where the first one stood.
INSERT INTO shortage (
    order_id, tenant_id, city, position, insured, cold, controlled, apart, state, registered_at
)
SELECT new.order_id, new.tenant_id, new.city,
    coalesce(
        (SELECT kept.position FROM shortage AS kept WHERE kept.order_id = new.place),
        nextval('shortage_position')
    ),
    new.insured, new.cold, string_to_array(new.controlled, ','), new.apart, 'waiting', $9
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::boolean[], $6::boolean[], $7::text[],
    $8::boolean[]
) WITH ORDINALITY AS new (
    order_id, tenant_id, city, place, insured, cold, controlled, apart, n
)
ORDER BY new.n
ON CONFLICT (order_id) DO NOTHING;

-- name: add_lines
INSERT INTO shortage_line (order_id, line, drug, products, quantity)
SELECT order_id, line, drug, string_to_array(products, ','), quantity
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::int[])
    AS new (order_id, line, drug, products, quantity)
ON CONFLICT DO NOTHING;

-- name: waiting_cities
-- Where somebody waits for what was just counted, or given free, in these pharmacies.
SELECT DISTINCT pharmacy.city, pharmacy.pharmacy_id
FROM unnest($1::uuid[]) AS counted (pharmacy_id)
JOIN pharmacy USING (pharmacy_id)
WHERE EXISTS (
    SELECT FROM shortage WHERE shortage.city = pharmacy.city AND shortage.state = 'waiting'
);

-- name: waiting
SELECT order_id, position, insured, cold, controlled
FROM shortage
WHERE city = $1 AND state = 'waiting'
ORDER BY position, order_id
LIMIT $2;

-- name: lines
SELECT order_id, products, quantity
FROM shortage_line
WHERE order_id = ANY($1::uuid[])
ORDER BY order_id, line;

-- name: shelves
-- Free packs of these products in a city, or in some of its pharmacies.
SELECT stock.pharmacy_id, stock.product_code,
    stock.counted - stock.sealed_since - stock.reserved - stock.held AS free
FROM stock
JOIN pharmacy USING (pharmacy_id)
WHERE pharmacy.city = $1
    AND stock.product_code = ANY($2::text[])
    AND ($3::uuid[] IS NULL OR stock.pharmacy_id = ANY($3))
    AND stock.counted - stock.sealed_since - stock.reserved - stock.held > 0
    AND (stock.expires_at IS NULL OR stock.expires_at > kit.now());

-- name: lock_shelves
SELECT 1
FROM stock
WHERE (pharmacy_id, product_code) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
ORDER BY pharmacy_id, product_code
FOR UPDATE;

-- name: bodies
SELECT body FROM pharmacy WHERE pharmacy_id = ANY($1::uuid[]);

-- name: rows
SELECT order_id, tenant_id, state
FROM shortage
WHERE order_id = ANY($1::uuid[])
ORDER BY order_id
FOR UPDATE;

-- name: holds
SELECT order_id, pharmacy_id, product_code, qty
FROM shortage_hold
WHERE order_id = ANY($1::uuid[])
ORDER BY pharmacy_id, product_code;

-- name: hold
-- The check stands here: what is not free is kept for nobody.
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[])
        AS new (order_id, pharmacy_id, product_code, qty)
), added AS (
    INSERT INTO shortage_hold SELECT * FROM wanted
), summed AS (
    SELECT pharmacy_id, product_code, sum(qty) AS qty FROM wanted GROUP BY 1, 2
)
UPDATE stock
SET held = stock.held + summed.qty
FROM summed
WHERE stock.pharmacy_id = summed.pharmacy_id
    AND stock.product_code = summed.product_code
    AND stock.counted - stock.sealed_since - stock.reserved - stock.held >= summed.qty
RETURNING stock.pharmacy_id;

-- name: let_go_holds
WITH gone AS (
    DELETE FROM shortage_hold WHERE order_id = ANY($1::uuid[])
    RETURNING pharmacy_id, product_code, qty
), summed AS (
    SELECT pharmacy_id, product_code, sum(qty) AS qty FROM gone GROUP BY 1, 2
)
UPDATE stock
SET held = stock.held - summed.qty
FROM summed
WHERE stock.pharmacy_id = summed.pharmacy_id AND stock.product_code = summed.product_code
RETURNING stock.pharmacy_id;

-- name: move_shortages
UPDATE shortage
SET state = moved.state, why = moved.why, ordered_by = moved.ordered_by,
    asked_at = CASE WHEN moved.state = 'asked' THEN $5 ELSE shortage.asked_at END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
    AS moved (order_id, state, why, ordered_by)
WHERE shortage.order_id = moved.order_id AND shortage.state NOT IN ('ordered', 'left');

-- name: wake
-- Under a name of its own: one that fires in this very transaction is forgotten at its end.
INSERT INTO timer (order_id, kind, ref, due_at)
SELECT order_id, 'shortage', $2, $3::timestamptz
FROM unnest($1::uuid[]) AS served (order_id)
ORDER BY order_id
ON CONFLICT (order_id, kind, ref) DO NOTHING;

-- name: apart
-- Of these orders those whose every line some pharmacy of the city could fill, though none all.
SELECT lacking.order_id
FROM unnest($2::uuid[], $3::int[], $4::text[], $5::int[])
    AS lacking (order_id, line, products, quantity)
GROUP BY lacking.order_id
HAVING bool_and(EXISTS (
    SELECT FROM stock
    JOIN pharmacy USING (pharmacy_id)
    WHERE pharmacy.city = $1
        AND stock.product_code = ANY(string_to_array(lacking.products, ','))
        AND stock.counted - stock.sealed_since - stock.reserved - stock.held >= lacking.quantity
        AND (stock.expires_at IS NULL OR stock.expires_at > kit.now())
));

-- name: overview
-- The line for each drug in each city.
SELECT shortage.city, shortage_line.drug,
    count(DISTINCT shortage.order_id) FILTER (WHERE shortage.state = 'waiting') AS waiting,
    count(DISTINCT shortage.order_id) FILTER (WHERE shortage.state = 'asked') AS asked,
    count(DISTINCT shortage.order_id) FILTER (WHERE shortage.state = 'kept') AS kept,
    count(DISTINCT shortage.order_id) FILTER (WHERE shortage.state = 'ordered') AS ordered,
    count(DISTINCT shortage.order_id) FILTER (WHERE shortage.state = 'left') AS "left",
    coalesce(sum(shortage_line.quantity) FILTER (WHERE shortage.state = 'waiting'), 0)::bigint
        AS packs_wanted,
    min(shortage.registered_at) FILTER (WHERE shortage.state = 'waiting') AS waiting_since
FROM shortage
JOIN shortage_line USING (order_id)
WHERE ($1::text IS NULL OR shortage.city = $1)
GROUP BY shortage.city, shortage_line.drug
ORDER BY waiting DESC, shortage.city, shortage_line.drug
LIMIT $2;

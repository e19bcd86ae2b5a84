-- name: due_cities
SELECT DISTINCT ref FROM timer WHERE kind = 'match' AND due_at <= kit.now() ORDER BY ref;

-- name: hold_lease
-- One's own lease is prolonged; another's is taken over only when it has run out.
INSERT INTO city_lease AS held (city, holder, epoch, until)
VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (city) DO UPDATE
SET holder = excluded.holder,
    epoch = held.epoch + (held.holder <> excluded.holder)::int,
    until = excluded.until
WHERE held.holder = excluded.holder OR held.until < clock_timestamp()
RETURNING epoch;

-- name: check_lease
SELECT epoch FROM city_lease WHERE city = $1 AND holder = $2 AND epoch = $3 FOR SHARE;

-- name: let_go
UPDATE city_lease SET until = clock_timestamp() WHERE holder = $1;

-- name: city_version
SELECT version FROM city_version WHERE city = $1;

-- name: cities
SELECT city, timezone, tiers, rules, factors FROM city WHERE city = ANY($1::text[]);

-- name: pharmacies_changed
-- The oldest so many, with all that changed at once with the last of them.
SELECT body, changed FROM pharmacy
WHERE city = $1 AND changed > $2
ORDER BY changed
FETCH FIRST ($3::bigint) ROWS WITH TIES;

-- name: slots_used
SELECT pharmacy_id, count(*) AS used
FROM offer
WHERE city = $1 AND slot = $2 AND state IN ('open', 'accepted')
GROUP BY pharmacy_id;

-- name: foreseen
SELECT order_id
FROM foreseen
WHERE city = $1 AND issued_at > $2
ORDER BY issued_at DESC, order_id
LIMIT $3;

-- name: foreseen_bodies
SELECT order_id, body FROM foreseen WHERE order_id = ANY($1::uuid[]);

-- name: put_foreseen
INSERT INTO foreseen (order_id, city, issued_at, body)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::jsonb[])
ON CONFLICT (order_id) DO NOTHING;

-- name: drop_foreseen
DELETE FROM foreseen WHERE order_id = ANY($1::uuid[]);

-- name: read_stock
-- What has expired is not there.
SELECT pharmacy_id, product_code,
    CASE WHEN expires_at <= kit.now() THEN least(0, counted - sealed_since - reserved)
    ELSE counted - sealed_since - reserved END AS free, held
FROM stock
JOIN unnest($1::uuid[], $2::text[]) AS asked (pharmacy_id, product_code)
    USING (pharmacy_id, product_code);

-- name: read_shelves
-- The same for each of some products in each of some pharmacies, by their places in what is asked.
SELECT coalesce(array_agg(shop.place), '{}') AS shops,
    coalesce(array_agg(product.place), '{}') AS products,
    coalesce(array_agg(CASE
        WHEN expires_at <= kit.now() THEN least(0, counted - sealed_since - reserved)
        ELSE counted - sealed_since - reserved
    END - held), '{}') AS free
FROM unnest($1::uuid[]) WITH ORDINALITY AS shop (pharmacy_id, place)
CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS product (product_code, place)
JOIN stock USING (pharmacy_id, product_code);

-- name: lock_stock
SELECT pharmacy_id, product_code,
    CASE WHEN expires_at <= kit.now() THEN least(0, counted - sealed_since - reserved)
    ELSE counted - sealed_since - reserved END AS free, held
FROM stock
WHERE (pharmacy_id, product_code) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
ORDER BY pharmacy_id, product_code
FOR UPDATE;

-- name: lock_more_stock
-- The same for who has locked some already: to wait now could be to wait in a circle.
SELECT pharmacy_id, product_code,
    CASE WHEN expires_at <= kit.now() THEN least(0, counted - sealed_since - reserved)
    ELSE counted - sealed_since - reserved END AS free, held
FROM stock
WHERE (pharmacy_id, product_code) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
ORDER BY pharmacy_id, product_code
FOR UPDATE NOWAIT;

-- name: hold_stock
-- The same without a look at them; columns as text.
SELECT count(*)
FROM (
    SELECT 1
    FROM stock
    WHERE (pharmacy_id, product_code) IN (
        SELECT * FROM unnest($1::text::uuid[], $2::text::text[])
    )
    ORDER BY pharmacy_id, product_code
    FOR UPDATE
) AS held;

-- name: put_cities
INSERT INTO city (city, city_id, name, timezone, tiers, rules, factors)
SELECT city, city_id, name, timezone, string_to_array(tiers, ','), rules, factors
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[])
    AS put (city, city_id, name, timezone, tiers, rules, factors)
ORDER BY city
ON CONFLICT (city) DO UPDATE
SET city_id = excluded.city_id, name = excluded.name, timezone = excluded.timezone,
    tiers = excluded.tiers, rules = excluded.rules, factors = excluded.factors;

-- name: raise_versions
INSERT INTO city_version AS known (city, version)
SELECT city, 1 FROM unnest($1::text[]) AS raised (city) ORDER BY city
ON CONFLICT (city) DO UPDATE SET version = known.version + 1;

-- name: put_pharmacies
INSERT INTO pharmacy (pharmacy_id, tenant_id, city, body, changed)
SELECT put.pharmacy_id, put.tenant_id, put.city, put.body, city_version.version
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::json[])
    AS put (pharmacy_id, tenant_id, city, body)
JOIN city_version USING (city)
ORDER BY put.pharmacy_id
ON CONFLICT (pharmacy_id) DO UPDATE
SET tenant_id = excluded.tenant_id, city = excluded.city, body = excluded.body,
    changed = excluded.changed;

-- name: first_counted
-- Those that have no shelf yet, and the time zone where they stand.
SELECT asked.pharmacy_id, coalesce(pharmacy.body ->> 'timezone', 'UTC') AS timezone
FROM unnest($1::uuid[]) AS asked (pharmacy_id)
LEFT JOIN pharmacy USING (pharmacy_id)
WHERE NOT EXISTS (SELECT FROM stock WHERE stock.pharmacy_id = asked.pharmacy_id);

-- name: midnights
-- A last day ends at midnight where the pharmacy stands.
SELECT timezone, last, (last + 1)::timestamp AT TIME ZONE timezone AS ends
FROM unnest($1::text[], $2::date[]) AS asked (timezone, last);

-- name: put_counts
-- What was sealed after the count, or at that very moment, is off the shelf too; an older count
-- changes nothing. The last day ends at midnight where the pharmacy stands: its record is large, so
-- it is read once for all of its counts. Answers where more is reserved than is there.
WITH zone AS MATERIALIZED (
    SELECT pharmacy_id, body ->> 'timezone' AS timezone
    FROM pharmacy
    WHERE pharmacy_id IN (
        SELECT told.pharmacy_id
        FROM unnest($1::text::uuid[], $5::text::date[]) AS told (pharmacy_id, expires_on)
        WHERE told.expires_on IS NOT NULL
    )
), changed AS (
INSERT INTO stock AS known (
    pharmacy_id, product_code, counted, counted_at, expires_at, sealed_since
)
SELECT put.pharmacy_id, put.product_code, put.counted, put.counted_at,
    CASE WHEN put.expires_on IS NOT NULL THEN
        (put.expires_on + 1)::timestamp AT TIME ZONE coalesce(zone.timezone, 'UTC')
    END,
    coalesce((
    SELECT sum(sealed.qty)
    FROM reservation AS sealed
    WHERE sealed.pharmacy_id = put.pharmacy_id
        AND sealed.product_code = put.product_code
        AND sealed.state = 'sealed'
        AND sealed.sealed_at >= put.counted_at
), 0)
FROM unnest(
    $1::text::uuid[], $2::text::text[], $3::text::int[], $4::text::timestamptz[], $5::text::date[]
)
    AS put (pharmacy_id, product_code, counted, counted_at, expires_on)
LEFT JOIN zone USING (pharmacy_id)
ORDER BY put.pharmacy_id, put.product_code
ON CONFLICT (pharmacy_id, product_code) DO UPDATE
SET counted = excluded.counted, counted_at = excluded.counted_at,
    expires_at = excluded.expires_at, sealed_since = excluded.sealed_since
WHERE known.counted_at < excluded.counted_at
RETURNING pharmacy_id, product_code, counted, reserved, known.sealed_since
)
SELECT pharmacy_id, product_code FROM changed WHERE reserved > counted - sealed_since
ORDER BY pharmacy_id, product_code;

-- name: believe_refusals
-- Who refuses because packs are not there has counted them: nothing is free until a later count.
-- What was sealed at that very moment counts against the shelf (`sealed_since`), so it is added to
-- what was counted.
UPDATE stock
SET counted = greatest(0, least(
        stock.counted - stock.sealed_since, stock.reserved + stock.held
    )) + lacking.sealed,
    counted_at = $3,
    sealed_since = lacking.sealed
FROM (
    SELECT pharmacy_id, product_code, coalesce((
        SELECT sum(one.qty)
        FROM reservation AS one
        WHERE one.pharmacy_id = told.pharmacy_id
            AND one.product_code = told.product_code
            AND one.state = 'sealed'
            AND one.sealed_at >= $3
    ), 0)::int AS sealed
    FROM unnest($1::uuid[], $2::text[]) AS told (pharmacy_id, product_code)
) AS lacking
WHERE stock.pharmacy_id = lacking.pharmacy_id
    AND stock.product_code = lacking.product_code
    AND stock.counted_at <= $3;

-- name: recheck_offers
-- Open offers over the count are looked at again, each in the transaction of its own order.
INSERT INTO timer (order_id, kind, ref, due_at)
SELECT DISTINCT offer.order_id, 'recheck', offer.offer_id::text, $3::timestamptz
FROM unnest($1::uuid[], $2::text[]) AS counted (pharmacy_id, product_code)
JOIN stock USING (pharmacy_id, product_code)
JOIN reservation USING (pharmacy_id, product_code)
JOIN offer USING (offer_id)
WHERE stock.reserved > stock.counted - stock.sealed_since
    AND reservation.state = 'reserved'
    AND offer.state = 'open'
ORDER BY 1
ON CONFLICT (order_id, kind, ref) DO UPDATE SET due_at = excluded.due_at;

-- name: add_offers
INSERT INTO offer (
    offer_id, order_id, number, city, pharmacy_id, tenant_id, slot, made_at, expires_at, state,
    tier, reasons, beside
)
SELECT made.offer_id, made.order_id, made.number, made.city, made.pharmacy_id, made.tenant_id,
    made.slot, $9, made.expires_at, 'open', made.tier, made.reasons,
    made.beside
FROM unnest(
    $1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::uuid[], $6::uuid[], $7::timestamptz[],
    $8::timestamptz[], $10::text[], $11::jsonb[], $12::boolean[]
) AS made (
    offer_id, order_id, number, city, pharmacy_id, tenant_id, slot, expires_at, tier, reasons,
    beside
);

-- name: offers_of
SELECT number, pharmacy_id, made_at, state, tier, reasons
FROM offer
WHERE order_id = $1
ORDER BY number;

-- name: add_falls
INSERT INTO fall (order_id, tier, below, at, reason, removed, chosen)
SELECT fell.order_id, fell.tier, fell.below, $7, fell.reason, fell.removed, fell.chosen
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bool[])
    AS fell (order_id, tier, below, reason, removed, chosen)
ON CONFLICT (order_id, tier) DO NOTHING;

-- name: forget_falls
-- More than are added, so that what is older than may be kept gets less; another worker has others.
DELETE FROM fall
WHERE (order_id, tier) IN (
    SELECT order_id, tier FROM fall
    WHERE at < $1
    ORDER BY at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
);

-- name: falls_of
SELECT tier, below, at, reason, removed, chosen
FROM fall
WHERE order_id = $1
ORDER BY at, below IS NULL, tier;

-- name: add_reservations
INSERT INTO reservation (offer_id, product_code, order_id, pharmacy_id, qty, slot, state)
SELECT made.offer_id, made.product_code, offer.order_id, offer.pharmacy_id, made.qty, offer.slot,
    'reserved'
FROM unnest($1::uuid[], $2::text[], $3::int[]) AS made (offer_id, product_code, qty)
JOIN offer USING (offer_id);

-- name: reserve
UPDATE stock
SET reserved = stock.reserved + made.qty
FROM unnest($1::uuid[], $2::text[], $3::int[]) AS made (pharmacy_id, product_code, qty)
WHERE stock.pharmacy_id = made.pharmacy_id
    AND stock.product_code = made.product_code
    AND stock.counted - stock.sealed_since - stock.reserved - stock.held >= made.qty
    AND (stock.expires_at IS NULL OR stock.expires_at > kit.now())
RETURNING stock.pharmacy_id;

-- name: move_offers
UPDATE offer
SET state = moved.state, attempt = coalesce(moved.attempt, offer.attempt)
FROM unnest($1::uuid[], $2::text[], $3::int[]) AS moved (offer_id, state, attempt)
WHERE offer.offer_id = moved.offer_id;

-- name: move_reservations
-- A sealed pack counts against the shelf while the last count is not younger than the seal.
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[]) AS moved (offer_id, next)
), held AS (
    SELECT reservation.*, wanted.next
    FROM reservation
    JOIN wanted USING (offer_id)
    WHERE reservation.state <> 'released' AND reservation.state <> wanted.next
), moved AS (
    UPDATE reservation
    SET state = held.next,
        sealed_at = CASE WHEN held.next = 'sealed' THEN $3 ELSE reservation.sealed_at END
    FROM held
    WHERE reservation.offer_id = held.offer_id AND reservation.product_code = held.product_code
), delta AS (
    SELECT held.pharmacy_id, held.product_code,
        coalesce(sum(held.qty) FILTER (WHERE held.state = 'reserved'), 0) AS unreserved,
        coalesce(sum(held.qty) FILTER (
            WHERE held.next = 'sealed' AND $3 >= stock.counted_at), 0)
        - coalesce(sum(held.qty) FILTER (
            WHERE held.state = 'sealed' AND held.sealed_at >= stock.counted_at), 0) AS sealed
    FROM held
    JOIN stock USING (pharmacy_id, product_code)
    GROUP BY held.pharmacy_id, held.product_code
)
UPDATE stock
SET reserved = stock.reserved - delta.unreserved,
    sealed_since = stock.sealed_since + delta.sealed
FROM delta
WHERE stock.pharmacy_id = delta.pharmacy_id AND stock.product_code = delta.product_code;

-- name: begin_trips
INSERT INTO trip (
    order_id, city, tier, pharmacy_id, authorised_at, due_at, metres, lines, cold
)
SELECT * FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::timestamptz[],
    $7::int[], $8::int[], $9::boolean[]
)
ON CONFLICT (order_id) DO UPDATE
SET tier = excluded.tier, pharmacy_id = excluded.pharmacy_id, due_at = excluded.due_at,
    metres = excluded.metres;

-- name: end_trips
-- What ended undelivered before its promise says nothing about time. Answers where one ended.
WITH done AS (
    SELECT * FROM unnest($1::uuid[], $2::boolean[]) AS told (order_id, delivered)
), forgotten AS (
    DELETE FROM trip USING done
    WHERE trip.order_id = done.order_id AND NOT done.delivered AND trip.due_at >= $3
    RETURNING trip.city, trip.order_id
), timed AS (
    UPDATE trip
    SET ended_at = $3,
        seconds = CASE WHEN done.delivered THEN extract(epoch FROM $3 - trip.authorised_at) END
    FROM done
    WHERE trip.order_id = done.order_id AND (done.delivered OR trip.due_at < $3)
        AND trip.ended_at IS NULL
    RETURNING trip.city, trip.order_id
)
SELECT city, order_id FROM forgotten UNION ALL SELECT city, order_id FROM timed
ORDER BY city, order_id DESC;

-- name: trips_ended
-- The last so many of all cities that ended after a moment, the newest first.
SELECT order_id, city, pharmacy_id, authorised_at, metres, lines, cold, ended_at, seconds
FROM trip
WHERE tier = $1 AND ended_at > $2
ORDER BY ended_at DESC
LIMIT $3;

-- name: trips_open
-- The longest on their way, among them all that are late.
SELECT order_id, pharmacy_id, authorised_at, metres, lines, cold
FROM trip
WHERE city = $1 AND tier = $2 AND ended_at IS NULL
ORDER BY authorised_at
LIMIT $3;

-- pre
-- Packs and catalogues by the names that verdicts give them, so that any verdict can be judged again.

CREATE TABLE archive (
    name text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('pack', 'catalogue')),
    content bytea NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now()
);

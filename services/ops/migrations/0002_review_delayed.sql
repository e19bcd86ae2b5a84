-- pre
-- Orders that the review desk cannot decide in their time.
ALTER TABLE order_view ADD COLUMN review_delayed boolean NOT NULL DEFAULT false;

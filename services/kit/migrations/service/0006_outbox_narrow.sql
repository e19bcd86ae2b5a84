-- post
-- Nobody marks a fact in its own row any more.

DROP INDEX outbox_unpublished;
ALTER TABLE outbox DROP COLUMN published_at;

-- pre
-- What the far side keeps refusing or leaving unknown is looked for among those, not in every call ever.
CREATE INDEX call_not_done ON call (outcome, order_id, kind) WHERE outcome IN ('refused', 'unknown');

-- pre
-- Money outside the claim: what the courier gets, what a late delivery is owed, what the platform adds.

ALTER TABLE transfer DROP CONSTRAINT transfer_kind_check;
ALTER TABLE transfer ADD CONSTRAINT transfer_kind_check CHECK (kind IN (
    'hold', 'capture', 'settlement', 'undo', 'release', 'refund',
    'made_good', 'courier_fee', 'compensation'));
ALTER TABLE entry DROP CONSTRAINT entry_account_check;
ALTER TABLE entry ADD CONSTRAINT entry_account_check CHECK (account IN (
    'patient', 'fund', 'personal_account', 'pharmacy', 'clearing',
    'platform', 'courier', 'compensation'));

-- What there was right after the last grant, and that entry's number: what is left is measured against it.
ALTER TABLE accounts ADD COLUMN full_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN full_number BIGINT NOT NULL DEFAULT 0;

UPDATE accounts SET full_number = last.number
FROM (SELECT organisation_id, MAX(number) AS number FROM entries WHERE kind = 'grant' GROUP BY organisation_id) last
WHERE last.organisation_id = accounts.organisation_id;

UPDATE accounts SET full_ticks = sums.ticks
FROM (
    SELECT e.organisation_id, SUM(e.amount_ticks) AS ticks
    FROM entries e
    JOIN accounts a ON a.organisation_id = e.organisation_id
    WHERE e.number <= a.full_number
    GROUP BY e.organisation_id
) sums
WHERE sums.organisation_id = accounts.organisation_id;

-- What an organisation may spend in a month (UTC). At `soft_ticks` its people are told, at `hard_ticks` its requests are
-- refused. `warned_month` is the month since 1970 in which they were told last.
CREATE TABLE spend_limits (
    organisation_id TEXT PRIMARY KEY,
    soft_ticks BIGINT CHECK (soft_ticks > 0),
    hard_ticks BIGINT CHECK (hard_ticks > 0),
    warned_month BIGINT NOT NULL DEFAULT 0
);

-- At which percentages of `full_ticks` people are told that credits run low: falling, separated by commas. They were
-- told last at `told_percent` of the grant with the number `told_number`.
CREATE TABLE low_credits (
    organisation_id TEXT PRIMARY KEY,
    thresholds TEXT NOT NULL DEFAULT '20,5,0',
    told_percent BIGINT NOT NULL DEFAULT 100,
    told_number BIGINT NOT NULL DEFAULT 0
);

-- To whom receipts are made out. `lines` are those of the address.
CREATE TABLE billing_details (
    organisation_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    lines TEXT NOT NULL,
    tax_id TEXT NOT NULL
);

-- What somebody set out to pay. `session_id` is the payment page's; `payment` and the rest are known once it was paid
-- and credited, which is one commit with its entry. `lost_cents` is what was taken back of it, or would have been.
CREATE TABLE top_ups (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    cents BIGINT NOT NULL CHECK (cents > 0),
    created_at BIGINT NOT NULL,
    session_id TEXT UNIQUE,
    payment TEXT UNIQUE,
    credited_at BIGINT,
    entry_id TEXT,
    lost_cents BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX top_ups_by_organisation ON top_ups (organisation_id, created_at);

-- What was paid back or is disputed of a payment: the refunds of one charge together, or one dispute. It was taken back
-- as far as there was credit.
CREATE TABLE payment_losses (
    id TEXT PRIMARY KEY,
    payment TEXT NOT NULL,
    cents BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX payment_losses_by_payment ON payment_losses (payment);

-- One for each payment, numbered without gaps in its year (UTC). It says what was true then.
CREATE TABLE receipts (
    year BIGINT NOT NULL,
    number BIGINT NOT NULL,
    organisation_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    cents BIGINT NOT NULL,
    payment TEXT NOT NULL UNIQUE,
    organisation TEXT NOT NULL,
    name TEXT NOT NULL,
    lines TEXT NOT NULL,
    tax_id TEXT NOT NULL,
    PRIMARY KEY (year, number)
);
CREATE INDEX receipts_by_organisation ON receipts (organisation_id, year, number);

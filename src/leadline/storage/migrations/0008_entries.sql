-- A charge happens once because it is written once: whoever tries again looks among the newest entries for its id. The
-- index that said so cost each request more than its entry.
CREATE TABLE plain_entries (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    organisation_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'charge', 'refund', 'expiry', 'adjustment')),
    amount_ticks BIGINT NOT NULL,
    reason TEXT NOT NULL,
    request_id TEXT,
    key_id TEXT,
    model TEXT,
    reserved_ticks BIGINT,
    digest TEXT NOT NULL
);

INSERT INTO plain_entries
SELECT
    number, id, organisation_id, at, kind, amount_ticks, reason, request_id, key_id, model, reserved_ticks, digest
FROM entries;

DROP TABLE entries;
ALTER TABLE plain_entries RENAME TO entries;

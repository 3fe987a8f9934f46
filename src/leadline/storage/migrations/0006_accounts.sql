-- Every key of a suspended organisation is refused. NULL: not suspended.
ALTER TABLE organisations ADD COLUMN suspended_at BIGINT;

-- Append-only: what somebody changed by hand. `before` and `after` are JSON objects of the fields that changed.
CREATE TABLE audit_log (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL
);

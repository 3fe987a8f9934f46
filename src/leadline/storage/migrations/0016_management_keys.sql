-- Keys of the management API. They run no inference, and API keys manage nothing. `digest` is a keyed hash of what the
-- owner has; `acls` and `ip_ranges` are JSON arrays. No ACL: it may do nothing; no range: it comes from anywhere.
CREATE TABLE management_keys (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL REFERENCES organisations (id),
    owner_id TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    last_four TEXT NOT NULL,
    name TEXT NOT NULL,
    acls TEXT NOT NULL,
    ip_ranges TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    expires_at BIGINT,
    disabled_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

-- What is no charge is found without reading an organisation's charges. A charge costs this index nothing.
CREATE INDEX entries_given ON entries (organisation_id, number) WHERE kind <> 'charge';

-- Files that an organisation uploaded. Their content lies beside the database, sealed piece by piece under the id;
-- `sha256` is that of the plain content. Without `expires_at` a file stays until it is deleted.
CREATE TABLE files (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX files_by_organisation ON files (organisation_id, id);
CREATE INDEX files_by_expiry ON files (expires_at);

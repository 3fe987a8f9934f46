-- What a key is for: nothing is an API key, `playground` what somebody asks for in the console. Nobody knows the secret
-- of the latter, and each member of an organisation has one that is not revoked.
ALTER TABLE api_keys ADD COLUMN purpose TEXT NOT NULL DEFAULT '' CHECK (purpose IN ('', 'playground'));
CREATE UNIQUE INDEX api_keys_of_playgrounds ON api_keys (organisation_id, created_by)
    WHERE purpose = 'playground' AND revoked_at IS NULL;

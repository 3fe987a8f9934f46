-- From where a key was used last.
ALTER TABLE api_keys ADD COLUMN last_used_address TEXT NOT NULL DEFAULT '';

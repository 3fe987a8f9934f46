-- What is looked for by its action alone, such as all grants, is found however long the log is.
CREATE INDEX audit_log_by_action ON audit_log (action, id);

-- Keys of upstreams, sealed: whoever reads this table alone learns no key. Not a tenant's, so only the system login has rights.
CREATE TABLE upstream_credentials (
  -- As the configuration names it; it belongs to the seal.
  upstream text PRIMARY KEY CHECK (upstream <> ''),
  sealed bytea NOT NULL,
  -- Which master key opens it.
  key_id text NOT NULL,
  -- When the key itself was set, and by whom; sealing it anew is no change.
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON upstream_credentials TO kontor_system;

INSERT INTO version (topic) VALUES ('upstream_credentials');
CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON upstream_credentials
  FOR EACH STATEMENT EXECUTE FUNCTION count_version('upstream_credentials');

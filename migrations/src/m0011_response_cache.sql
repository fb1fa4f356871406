-- Which organisations have answers kept in memory, for how long and in how much of it.
CREATE TABLE response_cache (
  tenant_id uuid PRIMARY KEY REFERENCES tenant (id) ON DELETE CASCADE,
  -- How old an answer may be.
  ttl_seconds int NOT NULL CHECK (ttl_seconds > 0),
  -- What its answers may take on each node.
  memory_mib int NOT NULL CHECK (memory_mib > 0),
  changed_at timestamptz NOT NULL DEFAULT now()
);
CALL enforce_tenancy('response_cache');
GRANT SELECT ON response_cache TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON response_cache TO kontor_system;

INSERT INTO version (topic) VALUES ('response_cache');
CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON response_cache
  FOR EACH STATEMENT EXECUTE FUNCTION count_version('response_cache');

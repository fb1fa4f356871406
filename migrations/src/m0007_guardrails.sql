-- What an organisation's guardrails look for and what then happens: one set for each, replaced as a whole.
CREATE TABLE guardrail_policy (
  tenant_id uuid PRIMARY KEY REFERENCES tenant (id) ON DELETE CASCADE,
  -- As the crate `guardrails` reads it.
  policy jsonb NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now()
);
CALL enforce_tenancy('guardrail_policy');
GRANT SELECT ON guardrail_policy TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON guardrail_policy TO kontor_system;

INSERT INTO version (topic) VALUES ('guardrails');
CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON guardrail_policy
  FOR EACH STATEMENT EXECUTE FUNCTION count_version('guardrails');

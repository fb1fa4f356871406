-- What processes settled by their own count, by organisation and day (UTC, of the request): the ledger's rows are compared with
-- it. Processes of the version before tell nothing here, which is no difference.
CREATE TABLE ledger_count (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  day date NOT NULL,
  node_id uuid NOT NULL,
  uses bigint NOT NULL CHECK (uses > 0),
  prompt_tokens bigint NOT NULL,
  cached_tokens bigint NOT NULL,
  completion_tokens bigint NOT NULL,
  -- Of the newest use in it. If the ledger has a newer one, the process ended before it told of that.
  settled_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, day, node_id)
);
CREATE INDEX ledger_count_day ON ledger_count (day);
CALL enforce_tenancy('ledger_count');
GRANT SELECT ON ledger_count TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger_count TO kontor_system;

-- When a day was compared last, and by how much its rows differed.
ALTER TABLE ledger_day
  ADD COLUMN compared_at timestamptz,
  ADD COLUMN drift_uses bigint NOT NULL DEFAULT 0,
  ADD COLUMN drift_tokens bigint NOT NULL DEFAULT 0;
GRANT UPDATE (compared_at, drift_uses, drift_tokens) ON ledger_day TO kontor_system;

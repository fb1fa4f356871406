-- Programs that use models. Whoever answers for one may leave; the account stays.
CREATE TABLE service_account (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  id uuid NOT NULL,
  name text NOT NULL,
  -- What it is for, in words; people who read bills ask this first.
  purpose text NOT NULL,
  team text NOT NULL DEFAULT '',
  cost_center text NOT NULL DEFAULT '',
  owner_id uuid,
  -- NULL: every model that the tenant may use.
  models text[],
  expires_at timestamptz,
  disabled_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, owner_id) REFERENCES app_user (tenant_id, id) ON DELETE SET NULL (owner_id)
);
CREATE UNIQUE INDEX service_account_name ON service_account (tenant_id, lower(name));
CREATE INDEX service_account_owner ON service_account (tenant_id, owner_id);
CALL enforce_tenancy('service_account');
GRANT SELECT, INSERT, UPDATE ON service_account TO kontor_tenant, kontor_system;

CREATE TABLE api_key (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  account_id uuid NOT NULL,
  name text NOT NULL DEFAULT '',
  -- SHA-256 of the key; the key itself is shown once and stored nowhere.
  hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
  -- Its last characters, by which people tell keys apart.
  hint text NOT NULL,
  scopes text[] NOT NULL,
  -- NULL: every model of the account.
  models text[],
  -- From where it may be used, as CIDR; empty: from everywhere.
  networks text[] NOT NULL DEFAULT '{}',
  expires_at timestamptz,
  disabled_at timestamptz,
  last_used_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, account_id) REFERENCES service_account (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX api_key_account ON api_key (tenant_id, account_id);
CALL enforce_tenancy('api_key');
GRANT SELECT, INSERT ON api_key TO kontor_tenant, kontor_system;
GRANT UPDATE (name, scopes, models, networks, expires_at, disabled_at, last_used_at) ON api_key TO kontor_tenant, kontor_system;

-- Nodes hold some things in memory (keys, prices, budgets, limits) and ask once a second whether their number changed.
CREATE TABLE version (
  topic text PRIMARY KEY,
  number bigint NOT NULL DEFAULT 1
);
INSERT INTO version (topic) VALUES ('keys');
GRANT SELECT ON version TO kontor_tenant, kontor_system;

-- For triggers; the argument is the topic.
CREATE FUNCTION count_version() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public
  AS $$
BEGIN
  UPDATE version SET number = number + 1 WHERE topic = TG_ARGV[0];
  RETURN NULL;
END
$$;
CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON service_account FOR EACH STATEMENT EXECUTE FUNCTION count_version('keys');
-- The last use is no change.
CREATE TRIGGER counted AFTER INSERT OR DELETE OR UPDATE OF scopes, models, networks, expires_at, disabled_at ON api_key
  FOR EACH STATEMENT EXECUTE FUNCTION count_version('keys');

-- Who used a model, where it was a program. No foreign keys: the ledger outlives accounts.
ALTER TABLE usage_event ADD COLUMN account_id uuid, ADD COLUMN key_id uuid;
CREATE INDEX usage_event_account ON usage_event (tenant_id, account_id, created_at) WHERE account_id IS NOT NULL;

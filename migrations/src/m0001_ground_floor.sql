-- ===== platform =====

-- Roles belong to the whole server, not to this database: another database may have made them already.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['kontor_tenant', 'kontor_system'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', wanted);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;
    END;
  END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO kontor_tenant, kontor_system;

-- The tenant of the transaction; NULL, which no row equals, outside of one.
CREATE FUNCTION app_tenant() RETURNS uuid
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$;

-- The two policies that every table with tenant_id has, written once.
CREATE PROCEDURE enforce_tenancy(name text)
  LANGUAGE plpgsql
  AS $$
BEGIN
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
  EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
  EXECUTE format('CREATE POLICY tenant ON %I TO kontor_tenant USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant())', name);
  EXECUTE format('CREATE POLICY system ON %I TO kontor_system USING (true) WITH CHECK (true)', name);
END
$$;
REVOKE EXECUTE ON PROCEDURE enforce_tenancy(text) FROM PUBLIC;

CREATE TABLE tenant (
  id uuid PRIMARY KEY,
  slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenant TO kontor_tenant USING (id = app_tenant()) WITH CHECK (id = app_tenant());
CREATE POLICY system ON tenant TO kontor_system USING (true) WITH CHECK (true);
GRANT SELECT ON tenant TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE ON tenant TO kontor_system;

-- ===== people =====

CREATE TABLE app_user (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  id uuid NOT NULL,
  email text NOT NULL,
  name text NOT NULL,
  language text NOT NULL DEFAULT 'en' CHECK (language IN ('en', 'de')),
  theme text NOT NULL DEFAULT 'system' CHECK (theme IN ('system', 'light', 'dark', 'contrast')),
  default_model text,
  instructions text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX app_user_email ON app_user (tenant_id, lower(email));
CALL enforce_tenancy('app_user');
GRANT SELECT, DELETE ON app_user TO kontor_tenant;
GRANT UPDATE (name, language, theme, default_model, instructions) ON app_user TO kontor_tenant;
GRANT SELECT (tenant_id, id, email, name, language, theme, default_model, created_at, disabled_at) ON app_user TO kontor_system;
GRANT INSERT, DELETE ON app_user TO kontor_system;
GRANT UPDATE (email, name, disabled_at) ON app_user TO kontor_system;

CREATE TABLE user_role (
  tenant_id uuid NOT NULL,
  user_id uuid NOT NULL,
  role text NOT NULL CHECK (role IN ('user', 'service_admin', 'system_admin')),
  source text NOT NULL DEFAULT 'manual',
  PRIMARY KEY (tenant_id, user_id, role),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE CASCADE
);
CALL enforce_tenancy('user_role');
GRANT SELECT ON user_role TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_role TO kontor_system;

CREATE TABLE local_credential (
  tenant_id uuid NOT NULL,
  user_id uuid NOT NULL,
  -- lower(email), unique across tenants: at sign-in nothing but the e-mail is known.
  email_key text NOT NULL UNIQUE CHECK (email_key = lower(email_key)),
  password_hash text NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, user_id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE CASCADE
);
CALL enforce_tenancy('local_credential');
GRANT SELECT ON local_credential TO kontor_tenant;
GRANT UPDATE (password_hash, changed_at) ON local_credential TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON local_credential TO kontor_system;

CREATE TABLE session (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  -- SHA-256 of the token; the token itself is shown to the browser once and stored nowhere.
  token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  user_agent text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX session_of_user ON session (tenant_id, user_id, last_seen_at DESC);
CALL enforce_tenancy('session');
GRANT SELECT ON session TO kontor_tenant;
GRANT UPDATE (revoked_at) ON session TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON session TO kontor_system;

-- No tenant: it counts attempts of people who are nobody yet. The key is a hash of an e-mail or a client address.
CREATE TABLE sign_in_throttle (
  key bytea PRIMARY KEY CHECK (octet_length(key) = 32),
  failures int NOT NULL,
  window_started_at timestamptz NOT NULL,
  blocked_until timestamptz
);
GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_throttle TO kontor_system;

-- ===== chats =====

CREATE TABLE conversation (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  title text NOT NULL DEFAULT '',
  title_source text NOT NULL DEFAULT 'none' CHECK (title_source IN ('none', 'model', 'user', 'import')),
  pinned bool NOT NULL DEFAULT false,
  archived_at timestamptz,
  deleted_at timestamptz,
  model text,
  system_prompt text NOT NULL DEFAULT '',
  sampling jsonb NOT NULL DEFAULT '{}',
  active_leaf uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX conversation_user ON conversation (tenant_id, user_id, updated_at DESC, id);
-- The purge job looks for these across tenants.
CREATE INDEX conversation_deleted ON conversation (deleted_at) WHERE deleted_at IS NOT NULL;
CALL enforce_tenancy('conversation');
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation TO kontor_tenant;
GRANT SELECT (tenant_id, id, user_id, pinned, archived_at, deleted_at, model, created_at, updated_at) ON conversation TO kontor_system;
GRANT DELETE ON conversation TO kontor_system;

CREATE TABLE message (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  conversation_id uuid NOT NULL,
  user_id uuid NOT NULL,
  parent_id uuid,
  role text NOT NULL CHECK (role IN ('user', 'assistant')),
  content text NOT NULL,
  status text NOT NULL CHECK (status IN ('running', 'complete', 'stopped', 'interrupted')),
  error text,
  depth int NOT NULL CHECK (depth >= 0),
  model text,
  prompt_tokens int,
  cached_tokens int,
  completion_tokens int,
  ttft_ms int,
  duration_ms int,
  finish_reason text,
  rating text CHECK (rating IN ('up', 'down')),
  rating_comment text NOT NULL DEFAULT '',
  rated_at timestamptz,
  -- German, English and unstemmed words, because nobody says which language a message is in.
  -- Cut, because a tsvector may not exceed 1 MB and a long message must still be stored.
  search tsvector NOT NULL GENERATED ALWAYS AS (
    to_tsvector('german'::regconfig, left(content, 65536))
      || to_tsvector('english'::regconfig, left(content, 65536))
      || to_tsvector('simple'::regconfig, left(content, 65536))
  ) STORED,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, conversation_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversation (tenant_id, id) ON DELETE CASCADE,
  -- A parent always lies in the same conversation.
  FOREIGN KEY (tenant_id, conversation_id, parent_id) REFERENCES message (tenant_id, conversation_id, id)
);
CREATE INDEX message_parent ON message (tenant_id, conversation_id, parent_id, id);
-- Prompt history and search begin here. A GIN index on `search` would never be used: `@@` is not leakproof,
-- so Postgres may not evaluate it before the row-level security policy. The person's own messages are few enough.
CREATE INDEX message_user ON message (tenant_id, user_id, created_at DESC, id);
CALL enforce_tenancy('message');
GRANT SELECT, INSERT, UPDATE, DELETE ON message TO kontor_tenant;
GRANT SELECT (tenant_id, id, conversation_id, user_id, parent_id, role, status, depth, model, prompt_tokens, cached_tokens, completion_tokens,
              ttft_ms, duration_ms, finish_reason, rating, rated_at, created_at) ON message TO kontor_system;

ALTER TABLE conversation
  ADD FOREIGN KEY (tenant_id, id, active_leaf) REFERENCES message (tenant_id, conversation_id, id)
  ON DELETE SET NULL (active_leaf) DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE attachment (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  message_id uuid NOT NULL,
  name text NOT NULL,
  bytes int NOT NULL CHECK (bytes >= 0),
  content text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX attachment_message ON attachment (tenant_id, message_id, id);
CALL enforce_tenancy('attachment');
GRANT SELECT, INSERT, DELETE ON attachment TO kontor_tenant;
GRANT SELECT (tenant_id, id, message_id, bytes, created_at) ON attachment TO kontor_system;

CREATE TABLE turn (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  conversation_id uuid NOT NULL,
  message_id uuid NOT NULL,
  user_id uuid NOT NULL,
  -- The server process that runs it.
  node uuid NOT NULL,
  status text NOT NULL CHECK (status IN ('running', 'complete', 'stopped', 'interrupted')),
  cancel_requested_at timestamptz,
  heartbeat_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversation (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX turn_one_running ON turn (tenant_id, conversation_id) WHERE status = 'running';
CREATE INDEX turn_conversation ON turn (tenant_id, conversation_id, started_at DESC);
CREATE INDEX turn_message ON turn (tenant_id, message_id);
CREATE INDEX turn_user ON turn (tenant_id, user_id);
-- Recovery looks for turns whose node is gone, across tenants.
CREATE INDEX turn_heartbeat ON turn (heartbeat_at) WHERE status = 'running';
CALL enforce_tenancy('turn');
GRANT SELECT, INSERT, UPDATE, DELETE ON turn TO kontor_tenant;
GRANT SELECT, DELETE ON turn TO kontor_system;
GRANT UPDATE (status, cancel_requested_at, ended_at) ON turn TO kontor_system;

CREATE TABLE turn_event (
  tenant_id uuid NOT NULL,
  turn_id uuid NOT NULL,
  seq int NOT NULL CHECK (seq > 0),
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, turn_id, seq),
  FOREIGN KEY (tenant_id, turn_id) REFERENCES turn (tenant_id, id) ON DELETE CASCADE
);
CALL enforce_tenancy('turn_event');
GRANT SELECT, INSERT, DELETE ON turn_event TO kontor_tenant;
GRANT SELECT (tenant_id, turn_id, seq, created_at) ON turn_event TO kontor_system;
GRANT DELETE ON turn_event TO kontor_system;

-- ===== ledger and audit =====

CREATE TABLE usage_event (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  id uuid NOT NULL,
  -- NULL once the person deleted the account, or for a job.
  user_id uuid,
  model text NOT NULL,
  purpose text NOT NULL,
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'settled')),
  outcome text CHECK (outcome IN ('ok', 'cancelled', 'disconnected', 'failed', 'swept')),
  reserved_tokens int NOT NULL CHECK (reserved_tokens >= 0),
  prompt_tokens int NOT NULL DEFAULT 0 CHECK (prompt_tokens >= 0),
  cached_tokens int NOT NULL DEFAULT 0 CHECK (cached_tokens BETWEEN 0 AND prompt_tokens),
  completion_tokens int NOT NULL DEFAULT 0 CHECK (completion_tokens >= 0),
  ttft_ms int,
  duration_ms int,
  request_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE SET NULL (user_id),
  CHECK ((state = 'settled') = (outcome IS NOT NULL AND settled_at IS NOT NULL))
);
CREATE INDEX usage_event_user ON usage_event (tenant_id, user_id, created_at);
CREATE INDEX usage_event_open ON usage_event (created_at) WHERE state = 'open';
CALL enforce_tenancy('usage_event');
GRANT SELECT, INSERT ON usage_event TO kontor_tenant;
GRANT UPDATE (state, outcome, prompt_tokens, cached_tokens, completion_tokens, ttft_ms, duration_ms, settled_at) ON usage_event TO kontor_tenant;
GRANT SELECT ON usage_event TO kontor_system;
GRANT UPDATE (state, outcome, settled_at) ON usage_event TO kontor_system;

-- The ledger is append-only but for the one settlement; only the person may be forgotten later.
CREATE FUNCTION usage_event_settles_once() RETURNS trigger
  LANGUAGE plpgsql
  AS $$
DECLARE
  forgotten usage_event := OLD;
BEGIN
  forgotten.user_id := NULL;
  IF OLD.state = 'settled' AND NEW IS DISTINCT FROM OLD AND NEW IS DISTINCT FROM forgotten THEN
    RAISE EXCEPTION 'usage event % is settled', OLD.id USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settles_once BEFORE UPDATE ON usage_event FOR EACH ROW EXECUTE FUNCTION usage_event_settles_once();

-- Nobody may change or remove a row; it also outlives its tenant and its people, hence no foreign keys.
CREATE TABLE audit_event (
  id uuid PRIMARY KEY,
  tenant_id uuid,
  actor text NOT NULL,
  action text NOT NULL,
  target text NOT NULL DEFAULT '',
  detail jsonb NOT NULL DEFAULT '{}',
  request_id uuid,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_event_tenant ON audit_event (tenant_id, at DESC);
CALL enforce_tenancy('audit_event');
GRANT SELECT, INSERT ON audit_event TO kontor_tenant, kontor_system;

-- Every replica asks whether the schema is new enough for it.
GRANT SELECT ON seaql_migrations TO kontor_tenant, kontor_system;

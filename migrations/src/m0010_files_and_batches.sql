-- Files of programs: what they brought, and what their batches made. The bytes lie in pieces beside, so that nobody ever
-- holds a whole file.
CREATE TABLE file (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  account_id uuid NOT NULL,
  filename text NOT NULL,
  -- What is here so far.
  bytes bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  -- All three come with the end of the upload: without them it is no file yet.
  purpose text CHECK (purpose IN ('assistants', 'batch', 'batch_output', 'evals', 'fine-tune', 'user_data', 'vision')),
  sha256 bytea CHECK (octet_length(sha256) = 32),
  expires_at timestamptz,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, account_id) REFERENCES service_account (tenant_id, id) ON DELETE CASCADE,
  CHECK ((purpose IS NULL) = (sha256 IS NULL))
);
CREATE INDEX file_account ON file (tenant_id, account_id, id);
-- The purge looks for those past their time and for uploads that never ended, across tenants.
CREATE INDEX file_expires ON file (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX file_unfinished ON file (created_at) WHERE sha256 IS NULL;
CALL enforce_tenancy('file');
GRANT SELECT, INSERT, UPDATE, DELETE ON file TO kontor_tenant;
GRANT SELECT (tenant_id, id, account_id, bytes, purpose, sha256, expires_at, created_at) ON file TO kontor_system;
GRANT DELETE ON file TO kontor_system;

CREATE TABLE file_chunk (
  tenant_id uuid NOT NULL,
  file_id uuid NOT NULL,
  number int NOT NULL CHECK (number >= 0),
  bytes bytea NOT NULL,
  PRIMARY KEY (tenant_id, file_id, number),
  FOREIGN KEY (tenant_id, file_id) REFERENCES file (tenant_id, id) ON DELETE CASCADE
);
CALL enforce_tenancy('file_chunk');
GRANT SELECT, INSERT, DELETE ON file_chunk TO kontor_tenant;
GRANT SELECT (tenant_id, file_id, number) ON file_chunk TO kontor_system;

-- Many requests that nobody waits for.
CREATE TABLE batch (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  account_id uuid NOT NULL,
  -- No foreign key: it is looked for among the keys each time, and without it the batch ends.
  key_id uuid NOT NULL,
  endpoint text NOT NULL,
  -- No foreign keys: files may be deleted before the batch is.
  input_file_id uuid NOT NULL,
  output_file_id uuid,
  error_file_id uuid,
  status text NOT NULL CHECK (status IN ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'expired', 'cancelling', 'cancelled')),
  metadata jsonb NOT NULL DEFAULT '{}',
  errors jsonb NOT NULL DEFAULT '[]',
  total int NOT NULL DEFAULT 0 CHECK (total >= 0),
  completed int NOT NULL DEFAULT 0 CHECK (completed >= 0),
  failed int NOT NULL DEFAULT 0 CHECK (failed >= 0),
  -- Who is at it: a number of its own for each time that a node takes it.
  lease uuid,
  heartbeat_at timestamptz,
  created_at timestamptz NOT NULL,
  in_progress_at timestamptz,
  finalizing_at timestamptz,
  cancelling_at timestamptz,
  ended_at timestamptz,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, account_id) REFERENCES service_account (tenant_id, id) ON DELETE CASCADE,
  CHECK ((ended_at IS NULL) = (status IN ('validating', 'in_progress', 'finalizing', 'cancelling')))
);
CREATE INDEX batch_account ON batch (tenant_id, account_id, id);
-- Nodes look for what is to be done, the purge for what ended long ago; both across tenants.
CREATE INDEX batch_unfinished ON batch (tenant_id, created_at) WHERE ended_at IS NULL;
CREATE INDEX batch_ended ON batch (ended_at) WHERE ended_at IS NOT NULL;
CALL enforce_tenancy('batch');
GRANT SELECT, INSERT, UPDATE, DELETE ON batch TO kontor_tenant;
GRANT SELECT (tenant_id, id, account_id, key_id, endpoint, status, total, completed, failed, lease, heartbeat_at, created_at, in_progress_at,
              finalizing_at, cancelling_at, ended_at, expires_at) ON batch TO kontor_system;
GRANT DELETE ON batch TO kontor_system;

-- The requests of a batch that has not ended, and what became of them.
CREATE TABLE batch_line (
  tenant_id uuid NOT NULL,
  batch_id uuid NOT NULL,
  number int NOT NULL CHECK (number > 0),
  custom_id text NOT NULL,
  -- Text, not jsonb: the route's own reader shall see what the client wrote, and jsonb does not hold every JSON.
  body text NOT NULL,
  -- All three come with the end of the request.
  request_id uuid,
  status int,
  response text,
  PRIMARY KEY (tenant_id, batch_id, number),
  FOREIGN KEY (tenant_id, batch_id) REFERENCES batch (tenant_id, id) ON DELETE CASCADE,
  CHECK ((status IS NULL) = (response IS NULL) AND (status IS NULL) = (request_id IS NULL))
);
CREATE INDEX batch_line_waiting ON batch_line (tenant_id, batch_id, number) WHERE status IS NULL;
CALL enforce_tenancy('batch_line');
GRANT SELECT, INSERT, UPDATE, DELETE ON batch_line TO kontor_tenant;
GRANT SELECT (tenant_id, batch_id, number, request_id, status) ON batch_line TO kontor_system;

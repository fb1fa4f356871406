-- Answers to programs that can be asked for again: what was asked, what was said, how far it is.
CREATE TABLE response (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  account_id uuid NOT NULL,
  -- No foreign key: what followed a deleted response must not look like the beginning of a conversation.
  previous_id uuid,
  model text NOT NULL,
  status text NOT NULL CHECK (status IN ('queued', 'in_progress', 'completed', 'failed', 'cancelled', 'incomplete')),
  instructions text,
  -- Parameters of the request, to be shown again.
  echo jsonb NOT NULL,
  input jsonb NOT NULL,
  output jsonb NOT NULL DEFAULT '[]',
  -- Bytes of input and output, so that a chain is bounded before it is read.
  bytes bigint NOT NULL CHECK (bytes >= 0),
  usage jsonb,
  error jsonb,
  metadata jsonb NOT NULL DEFAULT '{}',
  background bool NOT NULL,
  -- The server process that makes it.
  node uuid NOT NULL,
  cancel_requested_at timestamptz,
  heartbeat_at timestamptz NOT NULL DEFAULT now(),
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, account_id) REFERENCES service_account (tenant_id, id) ON DELETE CASCADE,
  CHECK ((ended_at IS NULL) = (status IN ('queued', 'in_progress')))
);
CREATE INDEX response_account ON response (tenant_id, account_id, created_at);
-- Recovery looks for responses whose node is gone, the purge for those past their time; both across tenants.
CREATE INDEX response_heartbeat ON response (heartbeat_at) WHERE status IN ('queued', 'in_progress');
CREATE INDEX response_expires ON response (expires_at);
CREATE INDEX response_ended ON response (ended_at) WHERE ended_at IS NOT NULL;
CALL enforce_tenancy('response');
GRANT SELECT, INSERT, UPDATE, DELETE ON response TO kontor_tenant;
GRANT SELECT (tenant_id, id, account_id, previous_id, model, status, bytes, background, node, cancel_requested_at, heartbeat_at, created_at,
              ended_at, expires_at) ON response TO kontor_system;
GRANT DELETE ON response TO kontor_system;

-- What the model says, piece by piece, for those who follow.
CREATE TABLE response_event (
  tenant_id uuid NOT NULL,
  response_id uuid NOT NULL,
  seq int NOT NULL CHECK (seq > 0),
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, response_id, seq),
  FOREIGN KEY (tenant_id, response_id) REFERENCES response (tenant_id, id) ON DELETE CASCADE
);
CALL enforce_tenancy('response_event');
GRANT SELECT, INSERT, DELETE ON response_event TO kontor_tenant;
GRANT SELECT (tenant_id, response_id, seq, created_at) ON response_event TO kontor_system;
GRANT DELETE ON response_event TO kontor_system;

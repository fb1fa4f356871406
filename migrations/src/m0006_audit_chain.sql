-- The audit trail as a chain: each seal has the hash of its event and of the seal before it. Sealing comes a moment after
-- the event, so that nobody who adds an event waits for anybody else.
CREATE TABLE audit_seal (
  number bigint PRIMARY KEY CHECK (number > 0),
  event_id uuid NOT NULL UNIQUE REFERENCES audit_event (id),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
GRANT SELECT, INSERT ON audit_seal TO kontor_system;
CREATE INDEX audit_event_at ON audit_event (at);
-- An event without end would be the newest for ever.
ALTER TABLE audit_event ADD CONSTRAINT audit_event_at CHECK (isfinite(at));

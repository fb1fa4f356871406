-- A batch that waits for a limit or a model is left alone until its time has come. What it will write is set aside when it is made.
ALTER TABLE batch
  ADD COLUMN waits_until timestamptz,
  ADD COLUMN reserved_bytes bigint NOT NULL DEFAULT 0 CHECK (reserved_bytes >= 0);
CREATE INDEX batch_open ON batch (tenant_id, account_id) WHERE ended_at IS NULL;
GRANT SELECT (waits_until) ON batch TO kontor_system;

-- How often a request was asked in vain goes with it from node to node.
ALTER TABLE batch_line
  -- Somebody is asked now. Whoever takes the batch and finds this knows that a node died over it.
  ADD COLUMN asked boolean NOT NULL DEFAULT false,
  -- Whoever computed it died.
  ADD COLUMN breaks int NOT NULL DEFAULT 0 CHECK (breaks >= 0),
  -- The model could not be had.
  ADD COLUMN absences int NOT NULL DEFAULT 0 CHECK (absences >= 0),
  -- A budget refused it.
  ADD COLUMN refusals int NOT NULL DEFAULT 0 CHECK (refusals >= 0),
  ADD COLUMN waits_until timestamptz;
CREATE INDEX batch_line_asked ON batch_line (tenant_id, batch_id) WHERE asked;

-- Bytes of all files and uploads of a tenant, counted along with them: each piece of an upload asks for the sum.
ALTER TABLE file NO FORCE ROW LEVEL SECURITY;
CREATE TABLE file_total (
  tenant_id uuid PRIMARY KEY REFERENCES tenant (id) ON DELETE CASCADE,
  bytes bigint NOT NULL
);
INSERT INTO file_total (tenant_id, bytes) SELECT tenant_id, sum(bytes) FROM file GROUP BY tenant_id;
ALTER TABLE file FORCE ROW LEVEL SECURITY;
CALL enforce_tenancy('file_total');
GRANT SELECT, INSERT, UPDATE ON file_total TO kontor_tenant;
GRANT SELECT, UPDATE ON file_total TO kontor_system;

CREATE FUNCTION file_total_add(of_tenant uuid, more bigint) RETURNS void
  LANGUAGE plpgsql
  AS $$
BEGIN
  IF more <> 0 THEN
    UPDATE file_total t SET bytes = t.bytes + more WHERE t.tenant_id = of_tenant;
    -- Less than nothing is left only of a tenant that is being removed, and its total went before its files.
    IF NOT FOUND AND more > 0 THEN
      INSERT INTO file_total AS t (tenant_id, bytes) VALUES (of_tenant, more)
      ON CONFLICT (tenant_id) DO UPDATE SET bytes = t.bytes + more;
    END IF;
  END IF;
END
$$;

-- Tenants in order: two purges at once must not wait for each other.
CREATE FUNCTION file_total_follows() RETURNS trigger
  LANGUAGE plpgsql
  AS $$
DECLARE
  change record;
BEGIN
  IF TG_OP = 'INSERT' THEN
    FOR change IN SELECT f.tenant_id, sum(f.bytes)::bigint AS more FROM new_files f GROUP BY f.tenant_id ORDER BY f.tenant_id LOOP
      PERFORM file_total_add(change.tenant_id, change.more);
    END LOOP;
  ELSIF TG_OP = 'DELETE' THEN
    FOR change IN SELECT f.tenant_id, sum(f.bytes)::bigint AS less FROM old_files f GROUP BY f.tenant_id ORDER BY f.tenant_id LOOP
      PERFORM file_total_add(change.tenant_id, -change.less);
    END LOOP;
  ELSE
    FOR change IN
      SELECT f.tenant_id, sum(f.more)::bigint AS more
      FROM (SELECT n.tenant_id, n.bytes AS more FROM new_files n UNION ALL SELECT o.tenant_id, -o.bytes FROM old_files o) AS f
      GROUP BY f.tenant_id ORDER BY f.tenant_id
    LOOP
      PERFORM file_total_add(change.tenant_id, change.more);
    END LOOP;
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER total_at_insert AFTER INSERT ON file REFERENCING NEW TABLE AS new_files
  FOR EACH STATEMENT EXECUTE FUNCTION file_total_follows();
CREATE TRIGGER total_at_update AFTER UPDATE ON file REFERENCING OLD TABLE AS old_files NEW TABLE AS new_files
  FOR EACH STATEMENT EXECUTE FUNCTION file_total_follows();
CREATE TRIGGER total_at_delete AFTER DELETE ON file REFERENCING OLD TABLE AS old_files
  FOR EACH STATEMENT EXECUTE FUNCTION file_total_follows();

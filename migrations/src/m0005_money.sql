-- What models cost. A price lasts until the next one of the same model begins.
CREATE TABLE price (
  id uuid PRIMARY KEY,
  model text NOT NULL,
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  -- Per million tokens.
  input numeric(18, 6) NOT NULL CHECK (input >= 0),
  cached_input numeric(18, 6) NOT NULL CHECK (cached_input >= 0),
  output numeric(18, 6) NOT NULL CHECK (output >= 0),
  -- For each request.
  per_request numeric(18, 6) NOT NULL CHECK (per_request >= 0),
  valid_from timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (model, valid_from)
);
GRANT SELECT, INSERT ON price TO kontor_system;

CREATE TABLE budget (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  id uuid NOT NULL,
  level text NOT NULL CHECK (level IN ('tenant', 'cost_center', 'team', 'service_account', 'key', 'user')),
  -- An id, or the name of a team or cost centre. NULL: each one of this level has a budget of its own.
  subject text,
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  amount numeric(26, 12) NOT NULL CHECK (amount >= 0),
  period text NOT NULL CHECK (period IN ('day', 'week', 'month', 'quarter', 'year', 'total')),
  -- That of the fiscal year.
  first_month smallint NOT NULL DEFAULT 1 CHECK (first_month BETWEEN 1 AND 12),
  -- A soft one only warns.
  hard boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  removed_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CALL enforce_tenancy('budget');
GRANT SELECT ON budget TO kontor_tenant;
GRANT SELECT, INSERT ON budget TO kontor_system;
GRANT UPDATE (removed_at) ON budget TO kontor_system;

-- Requests and tokens a minute, and what may run at the same time.
CREATE TABLE rate_limit (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  id uuid NOT NULL,
  level text NOT NULL CHECK (level IN ('tenant', 'cost_center', 'team', 'service_account', 'key', 'user')),
  subject text,
  -- NULL: all models together.
  model text,
  requests bigint CHECK (requests > 0),
  tokens bigint CHECK (tokens > 0),
  places bigint CHECK (places > 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  removed_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  CHECK (num_nonnulls(requests, tokens, places) > 0)
);
CALL enforce_tenancy('rate_limit');
GRANT SELECT ON rate_limit TO kontor_tenant;
GRANT SELECT, INSERT ON rate_limit TO kontor_system;
GRANT UPDATE (removed_at) ON rate_limit TO kontor_system;

INSERT INTO version (topic) VALUES ('quotas');
CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON price FOR EACH STATEMENT EXECUTE FUNCTION count_version('quotas');
CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON budget FOR EACH STATEMENT EXECUTE FUNCTION count_version('quotas');
CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON rate_limit FOR EACH STATEMENT EXECUTE FUNCTION count_version('quotas');

-- ===== budgets: nodes spend from slices that they hold =====

-- spent + held never exceeds the amount of a hard budget.
CREATE TABLE budget_period (
  tenant_id uuid NOT NULL,
  budget_id uuid NOT NULL,
  subject text NOT NULL,
  starts_at timestamptz NOT NULL,
  ends_at timestamptz,
  spent numeric(26, 12) NOT NULL DEFAULT 0,
  held numeric(26, 12) NOT NULL DEFAULT 0,
  -- Hundredths at which somebody was warned: 80, 90, 100.
  warned smallint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, budget_id, subject, starts_at),
  FOREIGN KEY (tenant_id, budget_id) REFERENCES budget (tenant_id, id) ON DELETE CASCADE
);
CALL enforce_tenancy('budget_period');
GRANT SELECT ON budget_period TO kontor_tenant;
GRANT SELECT, INSERT ON budget_period TO kontor_system;
GRANT UPDATE (spent, held, warned) ON budget_period TO kontor_system;

-- What of that is one process's: told as spent, and held.
CREATE TABLE budget_share (
  tenant_id uuid NOT NULL,
  budget_id uuid NOT NULL,
  subject text NOT NULL,
  starts_at timestamptz NOT NULL,
  node_id uuid NOT NULL,
  spent numeric(26, 12) NOT NULL DEFAULT 0,
  held numeric(26, 12) NOT NULL DEFAULT 0,
  seen_at timestamptz NOT NULL DEFAULT now(),
  -- The process was taken for dead: what it spent is counted from the ledger, and what it tells is not believed.
  counted boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, budget_id, subject, starts_at, node_id),
  FOREIGN KEY (tenant_id, budget_id, subject, starts_at) REFERENCES budget_period (tenant_id, budget_id, subject, starts_at) ON DELETE CASCADE
);
CREATE INDEX budget_share_held ON budget_share (seen_at) WHERE held > 0;
CALL enforce_tenancy('budget_share');
GRANT SELECT ON budget_share TO kontor_tenant;
GRANT SELECT, INSERT, DELETE ON budget_share TO kontor_system;
GRANT UPDATE (spent, held, seen_at, counted) ON budget_share TO kontor_system;

-- The ledger knows who pays, what it costs and which process sees to it.
ALTER TABLE usage_event
  ADD COLUMN team text NOT NULL DEFAULT '',
  ADD COLUMN cost_center text NOT NULL DEFAULT '',
  ADD COLUMN currency text,
  ADD COLUMN reserved_cost numeric(26, 12) NOT NULL DEFAULT 0,
  ADD COLUMN cost numeric(26, 12) NOT NULL DEFAULT 0 CHECK (cost >= 0),
  ADD COLUMN node_id uuid;
GRANT UPDATE (cost) ON usage_event TO kontor_tenant;
-- For counting anew what a dead process spent.
CREATE INDEX usage_event_node ON usage_event (tenant_id, node_id, created_at) WHERE cost > 0;

-- Takes a slice: at least `need`, else a sixty-fourth of what is free. `granted` is 0 if not even the need is free, which
-- a soft budget's (`capped` false) always is.
CREATE FUNCTION budget_take(
  for_tenant uuid, for_budget uuid, for_subject text, from_time timestamptz, to_time timestamptz, for_node uuid,
  amount numeric, capped boolean, need numeric
) RETURNS TABLE (granted numeric, free numeric)
  LANGUAGE plpgsql
  AS $$
BEGIN
  INSERT INTO budget_period (tenant_id, budget_id, subject, starts_at, ends_at)
  VALUES (for_tenant, for_budget, for_subject, from_time, to_time) ON CONFLICT DO NOTHING;
  SELECT amount - p.spent - p.held INTO free FROM budget_period p
  WHERE p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time FOR UPDATE;
  IF capped AND free < need THEN
    granted := 0;
    RETURN NEXT;
    RETURN;
  END IF;
  granted := greatest(need, trunc(free / 64, 12));
  UPDATE budget_period p SET held = held + granted
  WHERE p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time;
  INSERT INTO budget_share AS s (tenant_id, budget_id, subject, starts_at, node_id, held)
  VALUES (for_tenant, for_budget, for_subject, from_time, for_node, granted)
  ON CONFLICT (tenant_id, budget_id, subject, starts_at, node_id) DO UPDATE SET held = s.held + granted, seen_at = clock_timestamp();
  RETURN NEXT;
END
$$;

-- What a process spent in a period, from the ledger.
CREATE FUNCTION budget_spent_by(for_tenant uuid, for_budget uuid, for_subject text, from_time timestamptz, for_node uuid) RETURNS numeric
  LANGUAGE sql
  AS $$
    SELECT coalesce(sum(e.cost), 0)
    FROM usage_event e
      JOIN budget b ON b.tenant_id = for_tenant AND b.id = for_budget
      JOIN budget_period p ON p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time
    WHERE e.tenant_id = for_tenant AND e.node_id = for_node AND e.cost > 0 AND e.currency = b.currency
      AND e.created_at >= p.starts_at AND (p.ends_at IS NULL OR e.created_at < p.ends_at)
      AND for_subject = CASE b.level
        WHEN 'tenant' THEN e.tenant_id::text
        WHEN 'cost_center' THEN e.cost_center
        WHEN 'team' THEN e.team
        WHEN 'service_account' THEN e.account_id::text
        WHEN 'key' THEN e.key_id::text
        ELSE e.user_id::text
      END
  $$;

-- A process tells what it spent since it last told, and gives back what it does not need. Whoever was taken for dead is
-- not believed: the ledger is.
CREATE FUNCTION budget_tell(
  for_tenant uuid, for_budget uuid, for_subject text, from_time timestamptz, for_node uuid, told numeric, given_back numeric
) RETURNS TABLE (spent numeric, lost boolean)
  LANGUAGE plpgsql
  AS $$
DECLARE
  share budget_share;
  total numeric;
  rest numeric;
BEGIN
  PERFORM 1 FROM budget_period p
  WHERE p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time FOR UPDATE;
  SELECT * INTO share FROM budget_share s
  WHERE s.tenant_id = for_tenant AND s.budget_id = for_budget AND s.subject = for_subject AND s.starts_at = from_time AND s.node_id = for_node;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF share.counted THEN
    total := budget_spent_by(for_tenant, for_budget, for_subject, from_time, for_node);
  ELSE
    total := share.spent + told;
  END IF;
  rest := greatest(0, share.held - told - given_back);
  UPDATE budget_share s SET spent = total, held = rest, seen_at = clock_timestamp()
  WHERE s.tenant_id = for_tenant AND s.budget_id = for_budget AND s.subject = for_subject AND s.starts_at = from_time AND s.node_id = for_node;
  UPDATE budget_period p SET spent = p.spent + total - share.spent, held = p.held + rest - share.held
  WHERE p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time
  RETURNING p.spent INTO spent;
  lost := share.counted;
  RETURN NEXT;
END
$$;

-- What processes hold that were not seen since `before` comes back, and what they spent is counted from the ledger.
CREATE FUNCTION budget_recover(before timestamptz) RETURNS bigint
  LANGUAGE plpgsql
  AS $$
DECLARE
  share budget_share;
  total numeric;
  recovered bigint := 0;
BEGIN
  FOR share IN SELECT * FROM budget_share WHERE held > 0 AND seen_at < before ORDER BY tenant_id, budget_id, subject, starts_at, node_id LOOP
    PERFORM 1 FROM budget_period p
    WHERE p.tenant_id = share.tenant_id AND p.budget_id = share.budget_id AND p.subject = share.subject AND p.starts_at = share.starts_at
    FOR UPDATE;
    -- It may have been seen, or recovered by another, while this waited.
    SELECT * INTO share FROM budget_share s
    WHERE s.tenant_id = share.tenant_id AND s.budget_id = share.budget_id AND s.subject = share.subject AND s.starts_at = share.starts_at
      AND s.node_id = share.node_id AND s.held > 0 AND s.seen_at < before;
    CONTINUE WHEN NOT FOUND;
    total := budget_spent_by(share.tenant_id, share.budget_id, share.subject, share.starts_at, share.node_id);
    UPDATE budget_share s SET spent = total, held = 0, counted = true
    WHERE s.tenant_id = share.tenant_id AND s.budget_id = share.budget_id AND s.subject = share.subject AND s.starts_at = share.starts_at
      AND s.node_id = share.node_id;
    UPDATE budget_period p SET spent = p.spent + total - share.spent, held = p.held - share.held
    WHERE p.tenant_id = share.tenant_id AND p.budget_id = share.budget_id AND p.subject = share.subject AND p.starts_at = share.starts_at;
    recovered := recovered + 1;
  END LOOP;
  RETURN recovered;
END
$$;

-- ===== limits =====

-- A minute begins with its first request. Not logged: after a crash of the database everybody has a fresh minute.
CREATE UNLOGGED TABLE limit_minute (
  tenant_id uuid NOT NULL,
  limit_id uuid NOT NULL,
  subject text NOT NULL,
  unit text NOT NULL CHECK (unit IN ('requests', 'tokens')),
  ends_at timestamptz NOT NULL,
  taken bigint NOT NULL,
  PRIMARY KEY (tenant_id, limit_id, subject, unit)
);
CREATE INDEX limit_minute_ends ON limit_minute (ends_at);
CALL enforce_tenancy('limit_minute');
GRANT SELECT ON limit_minute TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON limit_minute TO kontor_system;

-- What processes hold of what may run at the same time.
CREATE UNLOGGED TABLE limit_place (
  tenant_id uuid NOT NULL,
  limit_id uuid NOT NULL,
  subject text NOT NULL,
  node_id uuid NOT NULL,
  held bigint NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, limit_id, subject, node_id)
);
CREATE INDEX limit_place_seen ON limit_place (seen_at);
CALL enforce_tenancy('limit_place');
GRANT SELECT ON limit_place TO kontor_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON limit_place TO kontor_system;

-- Takes of this minute: at least `need`, else a sixty-fourth of what is free, at most what is free.
CREATE FUNCTION limit_take(for_tenant uuid, for_limit uuid, for_subject text, for_unit text, most bigint, need bigint)
  RETURNS TABLE (granted bigint, free bigint, ends_in_ms bigint)
  LANGUAGE plpgsql
  AS $$
DECLARE
  minute limit_minute;
BEGIN
  INSERT INTO limit_minute (tenant_id, limit_id, subject, unit, ends_at, taken)
  VALUES (for_tenant, for_limit, for_subject, for_unit, clock_timestamp() + interval '1 minute', 0) ON CONFLICT DO NOTHING;
  SELECT * INTO minute FROM limit_minute m
  WHERE m.tenant_id = for_tenant AND m.limit_id = for_limit AND m.subject = for_subject AND m.unit = for_unit FOR UPDATE;
  IF minute.ends_at <= clock_timestamp() THEN
    minute.ends_at := clock_timestamp() + interval '1 minute';
    minute.taken := 0;
  END IF;
  free := greatest(0, most - minute.taken);
  granted := CASE WHEN free < need THEN 0 ELSE greatest(need, free / 64) END;
  free := free - granted;
  ends_in_ms := ceil(extract(epoch FROM minute.ends_at - clock_timestamp()) * 1000);
  UPDATE limit_minute m SET ends_at = minute.ends_at, taken = minute.taken + granted
  WHERE m.tenant_id = for_tenant AND m.limit_id = for_limit AND m.subject = for_subject AND m.unit = for_unit;
  RETURN NEXT;
END
$$;

-- Takes places: one, or a sixty-fourth of those that are free; 0 if none is. Processes not seen for 15 s hold none.
CREATE FUNCTION place_take(for_tenant uuid, for_limit uuid, for_subject text, for_node uuid, most bigint) RETURNS bigint
  LANGUAGE plpgsql
  AS $$
DECLARE
  free bigint;
  granted bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(for_limit::text || for_subject, 0));
  SELECT most - coalesce(sum(p.held), 0) INTO free FROM limit_place p
  WHERE p.tenant_id = for_tenant AND p.limit_id = for_limit AND p.subject = for_subject
    AND (p.node_id = for_node OR p.seen_at > clock_timestamp() - interval '15 seconds');
  IF free < 1 THEN
    RETURN 0;
  END IF;
  granted := greatest(1, free / 64);
  INSERT INTO limit_place AS p (tenant_id, limit_id, subject, node_id, held, seen_at)
  VALUES (for_tenant, for_limit, for_subject, for_node, granted, clock_timestamp())
  ON CONFLICT (tenant_id, limit_id, subject, node_id) DO UPDATE SET held = p.held + granted, seen_at = clock_timestamp();
  RETURN granted;
END
$$;

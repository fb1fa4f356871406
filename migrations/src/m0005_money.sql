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
  -- The process was taken for dead once: what it spent is counted from the ledger, what it tells of that is not believed.
  counted boolean NOT NULL DEFAULT false,
  -- It does not know that yet.
  lost boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, budget_id, subject, starts_at, node_id),
  FOREIGN KEY (tenant_id, budget_id, subject, starts_at) REFERENCES budget_period (tenant_id, budget_id, subject, starts_at) ON DELETE CASCADE
);
CREATE INDEX budget_share_held ON budget_share (seen_at) WHERE held > 0;
CALL enforce_tenancy('budget_share');
GRANT SELECT ON budget_share TO kontor_tenant;
GRANT SELECT, INSERT, DELETE ON budget_share TO kontor_system;
GRANT UPDATE (spent, held, seen_at, counted, lost) ON budget_share TO kontor_system;

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
CREATE INDEX usage_event_node ON usage_event (tenant_id, node_id, created_at) WHERE currency IS NOT NULL;

-- What a process spent in a period, and what is set aside for what it runs, from the ledger. What was used before there was
-- the budget does not count.
CREATE FUNCTION budget_of_ledger(for_tenant uuid, for_budget uuid, for_subject text, from_time timestamptz, for_node uuid)
  RETURNS TABLE (spent numeric, held numeric)
  LANGUAGE sql
  AS $$
    SELECT coalesce(sum(e.cost) FILTER (WHERE e.state = 'settled'), 0), coalesce(sum(e.reserved_cost) FILTER (WHERE e.state = 'open'), 0)
    FROM usage_event e
      JOIN budget b ON b.tenant_id = for_tenant AND b.id = for_budget
      JOIN budget_period p ON p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time
    WHERE e.tenant_id = for_tenant AND e.node_id = for_node AND e.currency = b.currency
      AND e.created_at >= greatest(p.starts_at, b.created_at) AND (p.ends_at IS NULL OR e.created_at < p.ends_at)
      AND for_subject = CASE b.level
        WHEN 'tenant' THEN e.tenant_id::text
        WHEN 'cost_center' THEN e.cost_center
        WHEN 'team' THEN e.team
        WHEN 'service_account' THEN e.account_id::text
        WHEN 'key' THEN e.key_id::text
        ELSE e.user_id::text
      END
  $$;

-- A process says what it spent in a period since it began and what it holds now: whole figures, so that saying it twice does
-- no harm. It may ask for more: at least `need`, else a sixty-fourth of what is free; `granted` is 0 if not even the need is
-- free, which of a soft budget (`capped` false) it always is. `lost`: the process was taken for dead meanwhile; of what it
-- held it has only what the ledger knows to run. From then on its spending is counted from the ledger.
CREATE FUNCTION budget_tell(
  for_tenant uuid, for_budget uuid, for_subject text, from_time timestamptz, to_time timestamptz, for_node uuid,
  told_spent numeric, told_held numeric, amount numeric, capped boolean, need numeric
) RETURNS TABLE (granted numeric, spent numeric, lost boolean)
  LANGUAGE plpgsql
  AS $$
DECLARE
  share budget_share;
  period budget_period;
  now_spent numeric := told_spent;
  now_held numeric := told_held;
BEGIN
  INSERT INTO budget_period (tenant_id, budget_id, subject, starts_at, ends_at)
  VALUES (for_tenant, for_budget, for_subject, from_time, to_time) ON CONFLICT DO NOTHING;
  SELECT * INTO period FROM budget_period p
  WHERE p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time FOR UPDATE;
  INSERT INTO budget_share (tenant_id, budget_id, subject, starts_at, node_id)
  VALUES (for_tenant, for_budget, for_subject, from_time, for_node) ON CONFLICT DO NOTHING;
  SELECT * INTO share FROM budget_share s
  WHERE s.tenant_id = for_tenant AND s.budget_id = for_budget AND s.subject = for_subject AND s.starts_at = from_time AND s.node_id = for_node;
  lost := share.lost;
  IF share.counted THEN
    SELECT l.spent INTO now_spent FROM budget_of_ledger(for_tenant, for_budget, for_subject, from_time, for_node) l;
  END IF;
  IF lost THEN
    SELECT l.held INTO now_held FROM budget_of_ledger(for_tenant, for_budget, for_subject, from_time, for_node) l;
  END IF;
  spent := period.spent + now_spent - share.spent;
  period.held := period.held + now_held - share.held;
  granted := 0;
  IF need > 0 AND NOT lost THEN
    IF NOT capped THEN
      granted := greatest(need, trunc((amount - spent - period.held) / 64, 12));
    ELSIF amount - spent - period.held >= need THEN
      granted := greatest(need, trunc((amount - spent - period.held) / 64, 12));
    END IF;
  END IF;
  UPDATE budget_share s SET spent = now_spent, held = now_held + granted, seen_at = clock_timestamp(), lost = false
  WHERE s.tenant_id = for_tenant AND s.budget_id = for_budget AND s.subject = for_subject AND s.starts_at = from_time AND s.node_id = for_node;
  UPDATE budget_period p SET spent = budget_tell.spent, held = period.held + granted
  WHERE p.tenant_id = for_tenant AND p.budget_id = for_budget AND p.subject = for_subject AND p.starts_at = from_time;
  RETURN NEXT;
END
$$;

-- What processes hold that were not seen since `before` comes back but for what the ledger knows to run, and what they spent
-- is counted from the ledger. At most `most` shares; returns how many.
CREATE FUNCTION budget_recover(before timestamptz, most int) RETURNS bigint
  LANGUAGE plpgsql
  AS $$
DECLARE
  share budget_share;
  counted_spent numeric;
  counted_held numeric;
  recovered bigint := 0;
BEGIN
  FOR share IN
    SELECT * FROM budget_share WHERE held > 0 AND seen_at < before
    ORDER BY tenant_id, budget_id, subject, starts_at, node_id LIMIT most
  LOOP
    PERFORM 1 FROM budget_period p
    WHERE p.tenant_id = share.tenant_id AND p.budget_id = share.budget_id AND p.subject = share.subject AND p.starts_at = share.starts_at
    FOR UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    -- It may have been seen, or recovered by another, meanwhile.
    SELECT * INTO share FROM budget_share s
    WHERE s.tenant_id = share.tenant_id AND s.budget_id = share.budget_id AND s.subject = share.subject AND s.starts_at = share.starts_at
      AND s.node_id = share.node_id AND s.held > 0 AND s.seen_at < before;
    CONTINUE WHEN NOT FOUND;
    SELECT l.spent, l.held INTO counted_spent, counted_held
    FROM budget_of_ledger(share.tenant_id, share.budget_id, share.subject, share.starts_at, share.node_id) l;
    -- What still runs, or seems to until the sweeper has settled it, is looked after again the next time.
    UPDATE budget_share s SET spent = counted_spent, held = counted_held, counted = true, lost = true
    WHERE s.tenant_id = share.tenant_id AND s.budget_id = share.budget_id AND s.subject = share.subject AND s.starts_at = share.starts_at
      AND s.node_id = share.node_id;
    UPDATE budget_period p SET spent = p.spent + counted_spent - share.spent, held = p.held + counted_held - share.held
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
  LOOP
    INSERT INTO limit_minute (tenant_id, limit_id, subject, unit, ends_at, taken)
    VALUES (for_tenant, for_limit, for_subject, for_unit, clock_timestamp() + interval '1 minute', 0) ON CONFLICT DO NOTHING;
    SELECT * INTO minute FROM limit_minute m
    WHERE m.tenant_id = for_tenant AND m.limit_id = for_limit AND m.subject = for_subject AND m.unit = for_unit FOR UPDATE;
    -- Somebody may just have tidied it away.
    EXIT WHEN FOUND;
  END LOOP;
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

-- A process says how many places it has and asks for more: one, or a sixty-fourth of those that are free; 0 if none is.
-- Processes not seen for 15 s have none.
CREATE FUNCTION place_take(for_tenant uuid, for_limit uuid, for_subject text, for_node uuid, has bigint, most bigint) RETURNS bigint
  LANGUAGE plpgsql
  AS $$
DECLARE
  free bigint;
  granted bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(for_limit::text || for_subject, 0));
  SELECT most - has - coalesce(sum(p.held), 0) INTO free FROM limit_place p
  WHERE p.tenant_id = for_tenant AND p.limit_id = for_limit AND p.subject = for_subject
    AND p.node_id <> for_node AND p.seen_at > clock_timestamp() - interval '15 seconds';
  granted := CASE WHEN free < 1 THEN 0 ELSE greatest(1, free / 64) END;
  INSERT INTO limit_place AS p (tenant_id, limit_id, subject, node_id, held, seen_at)
  VALUES (for_tenant, for_limit, for_subject, for_node, has + granted, clock_timestamp())
  ON CONFLICT (tenant_id, limit_id, subject, node_id) DO UPDATE SET held = has + granted, seen_at = clock_timestamp();
  RETURN granted;
END
$$;

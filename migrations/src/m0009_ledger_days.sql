-- The ledger by day (UTC) of the request. What is old leaves with its day's partition, not row by row; what is asked for a few
-- days reads these alone. A key of a partitioned table has the day in it, so nobody who writes the ledger as the version before
-- did can go on: end the processes of that version first (README). The rows are moved under a lock.
LOCK TABLE usage_event IN ACCESS EXCLUSIVE MODE;
-- Where the owner is no superuser, forced policies would hide every row from this step.
ALTER TABLE usage_event NO FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_event RENAME TO usage_event_before;
ALTER TABLE usage_event_before RENAME CONSTRAINT usage_event_pkey TO usage_event_before_pkey;
DROP INDEX usage_event_user, usage_event_open, usage_event_account, usage_event_node;

CREATE TABLE usage_event (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  id uuid NOT NULL,
  -- NULL once the person deleted the account, or for a job.
  user_id uuid,
  model text NOT NULL,
  purpose text NOT NULL,
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'settled')),
  outcome text CHECK (outcome IN ('ok', 'cancelled', 'disconnected', 'failed', 'swept', 'cached')),
  reserved_tokens int NOT NULL CHECK (reserved_tokens >= 0),
  prompt_tokens int NOT NULL DEFAULT 0 CHECK (prompt_tokens >= 0),
  cached_tokens int NOT NULL DEFAULT 0 CHECK (cached_tokens BETWEEN 0 AND prompt_tokens),
  completion_tokens int NOT NULL DEFAULT 0 CHECK (completion_tokens >= 0),
  ttft_ms int,
  duration_ms int,
  request_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  account_id uuid,
  key_id uuid,
  team text NOT NULL DEFAULT '',
  cost_center text NOT NULL DEFAULT '',
  currency text,
  reserved_cost numeric(26, 12) NOT NULL DEFAULT 0,
  cost numeric(26, 12) NOT NULL DEFAULT 0 CHECK (cost >= 0),
  node_id uuid,
  PRIMARY KEY (tenant_id, id, created_at),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE SET NULL (user_id),
  CHECK ((state = 'settled') = (outcome IS NOT NULL AND settled_at IS NOT NULL))
) PARTITION BY RANGE (created_at);
CREATE INDEX usage_event_user ON usage_event (tenant_id, user_id, created_at);
CREATE INDEX usage_event_open ON usage_event (created_at) WHERE state = 'open';
CREATE INDEX usage_event_account ON usage_event (tenant_id, account_id, created_at) WHERE account_id IS NOT NULL;
CREATE INDEX usage_event_node ON usage_event (tenant_id, node_id, created_at) WHERE currency IS NOT NULL;

-- Of a partition the type of a row has another name than the ledger's.
CREATE OR REPLACE FUNCTION usage_event_settles_once() RETURNS trigger
  LANGUAGE plpgsql
  AS $$
DECLARE
  forgotten record := OLD;
BEGIN
  forgotten.user_id := NULL;
  IF OLD.state = 'settled' AND NEW IS DISTINCT FROM OLD AND NEW IS DISTINCT FROM forgotten THEN
    RAISE EXCEPTION 'usage event % is settled', OLD.id USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER settles_once BEFORE UPDATE ON usage_event FOR EACH ROW EXECUTE FUNCTION usage_event_settles_once();

-- Every day that the ledger has, or had.
CREATE TABLE ledger_day (
  day date PRIMARY KEY,
  -- The roll-ups have all of it; NULL: the ledger itself must be read.
  closed_at timestamptz,
  -- The roll-ups alone still have it, but for what came even later.
  dropped_at timestamptz
);
GRANT SELECT ON ledger_day TO kontor_tenant, kontor_system;
GRANT UPDATE (closed_at) ON ledger_day TO kontor_system;

-- Something came after its day was closed, or on a day that has no partition. Reads first: whoever writes waits for nobody.
CREATE FUNCTION ledger_late() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
  AS $$
DECLARE
  late date := (NEW.created_at AT TIME ZONE 'UTC')::date;
BEGIN
  IF NOT EXISTS (SELECT FROM ledger_day d WHERE d.day = late AND d.closed_at IS NULL) THEN
    INSERT INTO ledger_day (day) VALUES (late) ON CONFLICT (day) DO UPDATE SET closed_at = NULL;
  END IF;
  RETURN NULL;
END
$$;

-- What belongs to no other partition: nothing is ever refused for lack of one. Policies of the ledger count for whoever asks the
-- ledger. Nobody has a right to ask a partition itself; without a policy it would answer nothing. Not forced: its owner moves rows.
CREATE TABLE usage_event_rest PARTITION OF usage_event DEFAULT;
ALTER TABLE usage_event_rest ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER late AFTER INSERT ON usage_event_rest FOR EACH ROW EXECUTE FUNCTION ledger_late();

CREATE FUNCTION ledger_partition(of_day date) RETURNS text
  LANGUAGE sql IMMUTABLE
  AS $$ SELECT 'usage_event_' || to_char(of_day, 'YYYYMMDD') $$;

-- Makes the partition of a day and moves there what the rest has of it. False if it is there. A short lock_timeout: who waits
-- for us while we wait for them is not the one whom Postgres ends (after a second). A writer that was waiting to put something
-- of this day into the rest fails (23514) and does it again.
CREATE FUNCTION ledger_add_day(new_day date) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
  AS $$
DECLARE
  part text := ledger_partition(new_day);
  from_time timestamptz := new_day::timestamp AT TIME ZONE 'UTC';
  to_time timestamptz := (new_day + 1)::timestamp AT TIME ZONE 'UTC';
  moves boolean;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger', 0));
  IF to_regclass('public.' || part) IS NOT NULL THEN
    RETURN false;
  END IF;
  -- In the order in which whoever deletes a person takes them.
  LOCK TABLE tenant, app_user IN SHARE ROW EXCLUSIVE MODE;
  LOCK TABLE ONLY usage_event IN SHARE UPDATE EXCLUSIVE MODE;
  LOCK TABLE usage_event_rest IN ACCESS EXCLUSIVE MODE;
  SELECT EXISTS (SELECT FROM usage_event_rest WHERE created_at >= from_time AND created_at < to_time) INTO moves;
  -- Its keys are checked row by row when they come back: a check of them all at once would be subject to policies.
  IF moves THEN
    CREATE TEMP TABLE ledger_moved AS SELECT * FROM usage_event_rest WHERE created_at >= from_time AND created_at < to_time;
    DELETE FROM usage_event_rest WHERE created_at >= from_time AND created_at < to_time;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE usage_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
  EXECUTE format('ALTER TABLE usage_event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, from_time, to_time);
  IF moves THEN
    EXECUTE format('INSERT INTO %I SELECT * FROM pg_temp.ledger_moved', part);
    DROP TABLE pg_temp.ledger_moved;
  END IF;
  INSERT INTO ledger_day (day) VALUES (new_day) ON CONFLICT (day) DO UPDATE SET closed_at = NULL;
  RETURN true;
END
$$;

-- Partitions of today and so many days to come, by the database's clock, and of every day that the rest has. Returns how many
-- are new.
CREATE FUNCTION ledger_prepare(ahead int) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
  AS $$
DECLARE
  today date := (now() AT TIME ZONE 'UTC')::date;
  days date[];
  wanted date;
  made bigint := 0;
BEGIN
  -- Before the rest is looked at: whoever makes a partition locks it.
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger', 0));
  days := ARRAY(
    SELECT today + n FROM generate_series(0, least(ahead, 31)) AS n
    UNION SELECT DISTINCT (created_at AT TIME ZONE 'UTC')::date FROM usage_event_rest
    ORDER BY 1);
  FOREACH wanted IN ARRAY days LOOP
    IF ledger_add_day(wanted) THEN
      made := made + 1;
    END IF;
  END LOOP;
  RETURN made;
END
$$;

-- Keeps everybody from writing into a past day until the transaction ends, and notes from then on what comes late. False if
-- something of the day is open still, or it has no partition.
CREATE FUNCTION ledger_hold(held date) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
  AS $$
DECLARE
  part text := ledger_partition(held);
  unsettled boolean;
BEGIN
  IF held >= (now() AT TIME ZONE 'UTC')::date OR to_regclass('public.' || part) IS NULL THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger', 0));
  EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', part);
  EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE state = ''open'')', part) INTO unsettled;
  IF unsettled THEN
    RETURN false;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('public.' || part) AND tgname = 'late') THEN
    EXECUTE format('CREATE TRIGGER late AFTER INSERT ON %I FOR EACH ROW EXECUTE FUNCTION ledger_late()', part);
    -- A use that the sweeper gave up may get its figures after all.
    EXECUTE format('CREATE TRIGGER late_figures AFTER UPDATE ON %I FOR EACH ROW WHEN (OLD.outcome IS DISTINCT FROM NEW.outcome) '
      'EXECUTE FUNCTION ledger_late()', part);
  END IF;
  RETURN true;
END
$$;

-- Drops the partition of a day that the roll-ups have. A year of the ledger is never dropped: budgets are counted from it.
CREATE FUNCTION ledger_drop(old_day date) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
  AS $$
BEGIN
  IF old_day >= (now() AT TIME ZONE 'UTC')::date - 366 THEN
    RAISE EXCEPTION 'the ledger of % is younger than a year', old_day USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  PERFORM FROM ledger_day d WHERE d.day = old_day AND d.closed_at IS NOT NULL FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the roll-ups do not have the ledger of %', old_day USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  LOCK TABLE tenant, app_user IN SHARE ROW EXCLUSIVE MODE;
  LOCK TABLE ONLY usage_event IN ACCESS EXCLUSIVE MODE;
  EXECUTE format('DROP TABLE %I', ledger_partition(old_day));
  UPDATE ledger_day SET dropped_at = clock_timestamp() WHERE day = old_day;
END
$$;
REVOKE EXECUTE ON FUNCTION ledger_late(), ledger_add_day(date), ledger_prepare(int), ledger_hold(date), ledger_drop(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_prepare(int), ledger_hold(date), ledger_drop(date) TO kontor_system;

-- The rows; keys and policies are there before they come, see above.
SELECT ledger_add_day(days.day) FROM (SELECT DISTINCT (created_at AT TIME ZONE 'UTC')::date AS day FROM usage_event_before ORDER BY 1) AS days;
INSERT INTO usage_event (tenant_id, id, user_id, model, purpose, state, outcome, reserved_tokens, prompt_tokens, cached_tokens,
                         completion_tokens, ttft_ms, duration_ms, request_id, created_at, settled_at, account_id, key_id, team,
                         cost_center, currency, reserved_cost, cost, node_id)
SELECT tenant_id, id, user_id, model, purpose, state, outcome, reserved_tokens, prompt_tokens, cached_tokens,
       completion_tokens, ttft_ms, duration_ms, request_id, created_at, settled_at, account_id, key_id, team,
       cost_center, currency, reserved_cost, cost, node_id
FROM usage_event_before;
DROP TABLE usage_event_before;
SELECT ledger_prepare(7);

CALL enforce_tenancy('usage_event');
-- The login that crosses tenants writes it; whoever asks for a person only reads.
GRANT SELECT ON usage_event TO kontor_tenant;
GRANT SELECT, INSERT ON usage_event TO kontor_system;
GRANT UPDATE (state, outcome, settled_at, model, prompt_tokens, cached_tokens, completion_tokens, ttft_ms, duration_ms, cost)
  ON usage_event TO kontor_system;

-- Sums of the settled uses of a day. A person may be forgotten, so two rows may have the same of everything.
CREATE TABLE usage_daily (
  tenant_id uuid NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
  day date NOT NULL,
  number bigint GENERATED ALWAYS AS IDENTITY,
  user_id uuid,
  account_id uuid,
  key_id uuid,
  team text NOT NULL,
  cost_center text NOT NULL,
  model text NOT NULL,
  purpose text NOT NULL,
  currency text,
  requests bigint NOT NULL CHECK (requests > 0),
  -- Of these, without an answer in the end.
  failures bigint NOT NULL,
  -- Of these, told again from memory.
  from_cache bigint NOT NULL,
  prompt_tokens bigint NOT NULL,
  cached_tokens bigint NOT NULL,
  completion_tokens bigint NOT NULL,
  cost numeric(38, 12) NOT NULL,
  -- Sums, and of how many uses: not every one came so far.
  ttft_ms bigint NOT NULL,
  ttft_count bigint NOT NULL,
  duration_ms bigint NOT NULL,
  duration_count bigint NOT NULL,
  -- Of the newest.
  settled_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, day, number),
  FOREIGN KEY (tenant_id, user_id) REFERENCES app_user (tenant_id, id) ON DELETE SET NULL (user_id)
);
CREATE INDEX usage_daily_user ON usage_daily (tenant_id, user_id, day);
CREATE INDEX usage_daily_day ON usage_daily (day);
CALL enforce_tenancy('usage_daily');
GRANT SELECT ON usage_daily TO kontor_tenant;
GRANT SELECT, INSERT, DELETE ON usage_daily TO kontor_system;

-- What the roll-ups alone have goes with its tenant and in no other way.
CREATE FUNCTION usage_daily_stays() RETURNS trigger
  LANGUAGE plpgsql
  AS $$
BEGIN
  IF pg_trigger_depth() = 1 AND EXISTS (SELECT FROM ledger_day d WHERE d.day = OLD.day AND d.dropped_at IS NOT NULL) THEN
    RAISE EXCEPTION 'the ledger of % is gone, its sums stay', OLD.day USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN OLD;
END
$$;
CREATE TRIGGER stays BEFORE DELETE ON usage_daily FOR EACH ROW EXECUTE FUNCTION usage_daily_stays();

-- As it was, but reading no more days than the period has.
CREATE OR REPLACE FUNCTION budget_of_ledger(for_tenant uuid, for_budget uuid, for_subject text, from_time timestamptz, for_node uuid)
  RETURNS TABLE (spent numeric, held numeric)
  LANGUAGE plpgsql
  AS $$
DECLARE
  of_level text;
  of_currency text;
  begins timestamptz;
  ends timestamptz;
BEGIN
  SELECT b.level, b.currency, greatest(p.starts_at, b.created_at), coalesce(p.ends_at, 'infinity') INTO of_level, of_currency, begins, ends
  FROM budget b JOIN budget_period p ON p.tenant_id = b.tenant_id AND p.budget_id = b.id
  WHERE b.tenant_id = for_tenant AND b.id = for_budget AND p.subject = for_subject AND p.starts_at = from_time;
  RETURN QUERY
    SELECT coalesce(sum(e.cost) FILTER (WHERE e.state = 'settled'), 0), coalesce(sum(e.reserved_cost) FILTER (WHERE e.state = 'open'), 0)
    FROM usage_event e
    WHERE e.tenant_id = for_tenant AND e.node_id = for_node AND e.currency = of_currency
      AND e.created_at >= begins AND e.created_at < ends
      AND for_subject = CASE of_level
        WHEN 'tenant' THEN e.tenant_id::text
        WHEN 'cost_center' THEN e.cost_center
        WHEN 'team' THEN e.team
        WHEN 'service_account' THEN e.account_id::text
        WHEN 'key' THEN e.key_id::text
        ELSE e.user_id::text
      END;
END
$$;

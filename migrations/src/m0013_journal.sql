-- The ledger may lag behind the journals: what a process told that it spent is spent, even where the ledger does not know it yet.
CREATE OR REPLACE FUNCTION budget_tell(
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
    SELECT greatest(l.spent, told_spent) INTO now_spent FROM budget_of_ledger(for_tenant, for_budget, for_subject, from_time, for_node) l;
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

CREATE OR REPLACE FUNCTION budget_recover(before timestamptz, most int) RETURNS bigint
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
    SELECT greatest(l.spent, share.spent), l.held INTO counted_spent, counted_held
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

-- What a process had spent when it died may come into the ledger after it was taken for dead, out of its journal. Then its
-- shares are counted once more.
CREATE FUNCTION budget_recount(for_node uuid) RETURNS void
  LANGUAGE plpgsql
  AS $$
DECLARE
  share budget_share;
  counted_spent numeric;
  counted_held numeric;
BEGIN
  FOR share IN
    SELECT * FROM budget_share WHERE node_id = for_node AND counted
    ORDER BY tenant_id, budget_id, subject, starts_at
  LOOP
    PERFORM 1 FROM budget_period p
    WHERE p.tenant_id = share.tenant_id AND p.budget_id = share.budget_id AND p.subject = share.subject AND p.starts_at = share.starts_at
    FOR UPDATE;
    -- It may have been counted meanwhile.
    SELECT * INTO share FROM budget_share s
    WHERE s.tenant_id = share.tenant_id AND s.budget_id = share.budget_id AND s.subject = share.subject AND s.starts_at = share.starts_at
      AND s.node_id = share.node_id;
    CONTINUE WHEN NOT FOUND;
    SELECT greatest(l.spent, share.spent), l.held INTO counted_spent, counted_held
    FROM budget_of_ledger(share.tenant_id, share.budget_id, share.subject, share.starts_at, share.node_id) l;
    UPDATE budget_share s SET spent = counted_spent, held = counted_held
    WHERE s.tenant_id = share.tenant_id AND s.budget_id = share.budget_id AND s.subject = share.subject AND s.starts_at = share.starts_at
      AND s.node_id = share.node_id;
    UPDATE budget_period p SET spent = p.spent + counted_spent - share.spent, held = p.held + counted_held - share.held
    WHERE p.tenant_id = share.tenant_id AND p.budget_id = share.budget_id AND p.subject = share.subject AND p.starts_at = share.starts_at;
  END LOOP;
END
$$;

-- Figures that come after the sweeper gave a use up are better than none.
CREATE OR REPLACE FUNCTION usage_event_settles_once() RETURNS trigger
  LANGUAGE plpgsql
  AS $$
DECLARE
  forgotten record := OLD;
BEGIN
  forgotten.user_id := NULL;
  IF OLD.state = 'settled' AND OLD.outcome <> 'swept' AND NEW IS DISTINCT FROM OLD AND NEW IS DISTINCT FROM forgotten THEN
    RAISE EXCEPTION 'usage event % is settled', OLD.id USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END
$$;

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
    SELECT l.spent, l.held INTO counted_spent, counted_held
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

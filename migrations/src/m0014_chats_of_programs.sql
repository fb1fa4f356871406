-- A service account whose keys may chat owns its chats through a row among the people: one whom nobody can sign in as, without
-- e-mail, name and roles. It has the account's own id, so that two keys made at once make one of it, and goes with the account.
ALTER TABLE app_user
  ADD COLUMN service_account_id uuid,
  ADD FOREIGN KEY (tenant_id, service_account_id) REFERENCES service_account (tenant_id, id) ON DELETE CASCADE,
  ADD UNIQUE (tenant_id, service_account_id),
  ADD CHECK (service_account_id IS NULL OR (service_account_id = id AND email = ''));
GRANT SELECT (service_account_id) ON app_user TO kontor_system;

DROP INDEX app_user_email;
CREATE UNIQUE INDEX app_user_email ON app_user (tenant_id, lower(email)) WHERE service_account_id IS NULL;

CREATE FUNCTION only_people_sign_in() RETURNS trigger
  LANGUAGE plpgsql
  AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM app_user u WHERE u.tenant_id = NEW.tenant_id AND u.id = NEW.user_id AND u.service_account_id IS NOT NULL) THEN
    RAISE EXCEPTION 'user % is a service account''s: nobody signs in as it', NEW.user_id USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER only_people BEFORE INSERT OR UPDATE OF user_id ON local_credential FOR EACH ROW EXECUTE FUNCTION only_people_sign_in();
CREATE TRIGGER only_people BEFORE INSERT OR UPDATE OF user_id ON session FOR EACH ROW EXECUTE FUNCTION only_people_sign_in();
CREATE TRIGGER only_people BEFORE INSERT OR UPDATE OF user_id ON user_role FOR EACH ROW EXECUTE FUNCTION only_people_sign_in();

-- Service accounts read their own usage now.
CREATE INDEX usage_daily_account ON usage_daily (tenant_id, account_id, day) WHERE account_id IS NOT NULL;

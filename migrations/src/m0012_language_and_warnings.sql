-- Until somebody chooses a language, the browser's is theirs; `language` then says nothing. Whoever is there already keeps what
-- they have, since nobody knows whether they chose it.
ALTER TABLE app_user ADD COLUMN follows_browser boolean NOT NULL DEFAULT false;
GRANT UPDATE (follows_browser) ON app_user TO kontor_tenant;

-- Names of rules that let what was sent for an answer pass, and warn of it.
ALTER TABLE message ADD COLUMN warnings text[] NOT NULL DEFAULT '{}';

-- Uses of all tenants are opened and settled together, many in one statement, so the login that crosses tenants writes them.
GRANT INSERT ON usage_event TO kontor_system;
GRANT UPDATE (model, prompt_tokens, cached_tokens, completion_tokens, ttft_ms, duration_ms, cost) ON usage_event TO kontor_system;

-- Where a fallback answered, a use is booked for the model that did the work.
GRANT UPDATE (model) ON usage_event TO kontor_tenant;

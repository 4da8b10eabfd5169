-- What is asked for by a few names at once was planned anew each time, which took longer than to find it: for a few the
-- planner expects less of the plan that it made for any number. With sequential scans switched off that one is as good.

ALTER FUNCTION load_streams(text[], text[], text) SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION answers_to(text[], text[]) SET plan_cache_mode = force_generic_plan;

/**
 * Dead letters: runs that have FAILED and that nobody has dealt with (decision 0031).
 *
 * Their fingerprint is computed for the index of dead letters, when a run fails, and kept nowhere else. No statement that ends a run knows
 * of it, so whatever lets a run fail is covered, and a run that does not fail pays nothing.
 */
export const deadLetters = `
lock table perdure.workflow_runs in access exclusive mode;

-- What a message has in common with those of other runs that failed in the same way: without ids, quoted values and numbers.
create function perdure.message_pattern(message text) returns text
  language plpgsql immutable parallel safe
  as $$
  declare
    pattern text := left(coalesce(message, ''), 2000);
  begin
    pattern := regexp_replace(pattern, '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '<id>', 'g');
    -- A quote inside a word, as in can't, begins no value.
    pattern := regexp_replace(pattern, E'(^|[^[:alnum:]])(\\'[^\\'\\n]*\\'|"[^"\\n]*"|\`[^\`\\n]*\`)(?![[:alnum:]])', E'\\\\1<value>', 'g');
    -- Words with a digit: numbers, hexadecimal numbers, order-4711 and 01ARZ3.
    pattern := regexp_replace(pattern, '[[:alnum:]_]*[0-9][[:alnum:]_]*', '<n>', 'g');
    return regexp_replace(pattern, '<n>([-.:,/+]<n>)+', '<n>', 'g');
  end $$;

-- Equal for failures that look the same to a person: workflow type, type and code of the error, step, and pattern of the message.
create function perdure.failure_fingerprint(workflow_type text, failure jsonb) returns text
  language plpgsql immutable parallel safe
  as $$
  declare
    -- Uses of a name in a loop have the same fingerprint, and so have names that end with a number or an id.
    step text := regexp_replace(coalesce(failure->>'stepId', ''), '#[0-9]+', '', 'g');
  begin
    step := regexp_replace(step, '(^|[-_ /:.])([0-9]+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27})(?![[:alnum:]])', E'\\\\1<n>', 'g');
    return left(encode(sha256(convert_to(
      workflow_type || E'\\n' || coalesce(failure->>'type', '') || E'\\n' || coalesce(failure->>'code', '') || E'\\n' || step || E'\\n'
        || perdure.message_pattern(failure->>'message'), 'UTF8')), 'hex'), 16);
  end $$;

alter table perdure.workflow_runs
  -- When a person has dismissed or restarted the failed run. Counts for that end only: a retried run that fails again is a dead letter.
  add column resolved_at timestamptz;

-- Dead letters by fingerprint. Empty unless runs fail.
create index workflow_runs_dead_letters on perdure.workflow_runs (namespace, perdure.failure_fingerprint(workflow_type, failure), run_id)
  where status = 'FAILED' and (parent_run_id is null or parent_close = 'ABANDON') and (resolved_at is null or resolved_at < finished_at);

-- One kind more, whatever kinds there are.
do $patch$
declare
  kinds constant text := (
    select pg_get_constraintdef(c.oid) from pg_constraint c
    where c.conrelid = 'perdure.run_actions'::regclass and c.conname = 'run_actions_kind_check');
begin
  if position('ARRAY[' in kinds) = 0 then raise exception 'No list of kinds in: %', kinds; end if;
  execute 'alter table perdure.run_actions drop constraint run_actions_kind_check, add constraint run_actions_kind_check '
    || replace(kinds, 'ARRAY[', 'ARRAY[''DISMISS''::text, ');
end $patch$;
`;

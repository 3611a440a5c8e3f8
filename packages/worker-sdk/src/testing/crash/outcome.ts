/** What an execution of a workflow came to, made comparable with other executions. */
export interface Outcome {
  readonly result?: unknown;
  readonly error?: unknown;
  readonly state?: unknown;
  /** Steps whose body has done its work, by workflow id and step id: one entry for one idempotency key. */
  readonly effects?: Readonly<Record<string, string>>;
  readonly probe?: unknown;
}

/** Most levels of causes. */
const MAX_CAUSES = 10;

/**
 * A copy without classes and without the ids that differ from one execution to the next.
 *
 * @param names what stands for an id, by the id
 */
export function comparable(value: unknown, names: ReadonlyMap<string, string>, depth = 0): unknown {
  if (typeof value === 'string') {
    let text = value;
    for (const [id, name] of names) text = text.replaceAll(id, name);
    return text;
  }
  if (typeof value !== 'object' || value === null || depth > 100) return value;
  const again = (part: unknown) => comparable(part, names, depth + 1);
  if (value instanceof Error) {
    const { name, message, cause } = value;
    const causes = cause === undefined || depth > MAX_CAUSES ? {} : { cause: again(cause) };
    return { name, message: again(message), ...causes };
  }
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Map) return again([...value]);
  if (value instanceof Set) return again([...value]);
  if (ArrayBuffer.isView(value))
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  if (Array.isArray(value)) return value.map(again);
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [String(again(key)), again(part)]));
}

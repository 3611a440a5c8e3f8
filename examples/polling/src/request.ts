import { RetryableError, TerminalError } from 'perdure';

export interface RequestOptions {
  /** Of the step: the request ends with the attempt. */
  readonly signal: AbortSignal;
  readonly method?: 'POST';
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * One request to an HTTP API, whose answer is read as JSON.
 *
 * @throws {RetryableError} when the API cannot answer now (429, 5xx); it is asked again when its Retry-After says, else by the policy of the step
 * @throws {TerminalError} when it has refused the request: another attempt would be refused too
 */
export async function request<T>(url: URL, options: RequestOptions): Promise<T> {
  const response = await fetch(url, options);
  if (response.ok) return (await response.json()) as T;
  const message = `${options.method ?? 'GET'} ${url.pathname} was answered with ${response.status}.`;
  const code = `HTTP_${response.status}`;
  if (response.status !== 429 && response.status < 500) throw new TerminalError(message, { code });
  const after = retryAfter(response.headers.get('retry-after'));
  throw new RetryableError(message, { code, ...(after === undefined ? {} : { after }) });
}

/** In ms, or a time of day: the header has either. */
function retryAfter(header: string | null): number | Date | undefined {
  if (header === null) return undefined;
  if (/^\d+$/.test(header)) return Number(header) * 1_000;
  const date = new Date(header);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

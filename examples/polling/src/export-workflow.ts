import { type Duration, type Workflow, workflow } from 'perdure';
import { request } from './request.js';

export const TASK_QUEUE = 'exports';

/** What the download step reports, and a later attempt continues from. */
interface Progress {
  readonly nextPage: number;
  readonly total: number;
}

interface ExportState {
  readonly state: 'pending' | 'ready';
  /** Seconds until it is worth asking again. */
  readonly askAgain?: number;
  readonly pages?: number;
}

export interface ExportOptions {
  /** Longest time of one request that is not the download. */
  readonly timeout: Duration;
  /** Longest silence of the download: a page that does not come. */
  readonly silence: Duration;
}

/**
 * Orders an export of a slow API, polls until it is ready, and adds up its pages. While it waits it occupies no slot of a worker, for minutes or for
 * days. All of its steps together are retried at most 20 times.
 */
export function exportWorkflow({
  timeout,
  silence,
}: ExportOptions): Workflow<string, { pages: number; total: number }> {
  return workflow('export', { maxRetriesInAll: 20 }, async (ctx, api: string) => {
    const { id } = await ctx.step(
      'order',
      ({ idempotencyKey, signal }) => {
        // However often it is ordered, the API makes one export for the key.
        const headers = { 'idempotency-key': idempotencyKey };
        return request<{ id: string }>(new URL('/exports', api), { method: 'POST', headers, signal });
      },
      { timeout, retry: { maxAttempts: 10 } },
    );

    let ready: ExportState | undefined;
    while (ready === undefined) {
      const export_ = await ctx.step(
        'ask',
        ({ signal }) => request<ExportState>(new URL(`/exports/${id}`, api), { signal }),
        { timeout, retry: { maxAttempts: 10 } },
      );
      if (export_.state === 'ready') ready = export_;
      else await ctx.sleep('wait', (export_.askAgain ?? 60) * 1_000);
    }

    const pages = ready.pages ?? 0;
    const total = await ctx.step(
      'download',
      async ({ signal, heartbeat, lastHeartbeat }) => {
        // An attempt continues where the one before it has stopped, also on another worker.
        let { nextPage, total } = lastHeartbeat<Progress>() ?? { nextPage: 1, total: 0 };
        for (; nextPage <= pages; nextPage++) {
          const page = await request<{ rows: number[] }>(new URL(`/exports/${id}/pages/${nextPage}`, api), { signal });
          for (const row of page.rows) total += row;
          heartbeat({ nextPage: nextPage + 1, total });
        }
        return total;
      },
      { heartbeatTimeout: silence, retry: { maxAttempts: 10 } },
    );
    return { pages, total };
  });
}

import postgres from 'postgres';
import { TASK_QUEUE } from './stack.mjs';

const taskQueue = TASK_QUEUE;
const PARTS = ['server', 'worker', 'postgres'];

/** Runs with many children; `one step` in the same rounds is what a run costs without a parent. */
export const fanout = {
  async fanout(stack, scale) {
    const figures = {};
    for (const [name, parents, children] of [
      ['one parent', 1, 10_000 * scale],
      ['100 parents', 100, 100 * scale],
    ]) {
      const before = PARTS.map(stack.cpuS);
      const beganMs = performance.now();
      const handles = await stack.client.startMany(
        'fanout',
        Array.from({ length: parents }, () => ({ input: children, options: { taskQueue } })),
      );
      for (const handle of handles) {
        const results = await handle.result();
        if (results !== children) throw new Error(`A parent counted ${results} of ${children} children.`);
      }
      figures[`${name}: runs/s`] = (parents * children) / ((performance.now() - beganMs) / 1000);
      for (const [index, part] of PARTS.entries()) {
        const cpuUs = ((stack.cpuS(part) - before[index]) * 1e6) / (parents * children);
        figures[`${name}: ${part} CPU per child, µs`] = cpuUs;
      }
      const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => undefined });
      const [{ claims }] = await sql`select max(lease_token)::int as claims from perdure.workflow_runs
        where run_id = any(${handles.map(({ runId }) => runId)})`;
      await sql.end();
      figures[`${name}: claims of a parent`] = claims;
    }
    return figures;
  },
};

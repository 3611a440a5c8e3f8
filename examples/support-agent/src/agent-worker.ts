/** A worker of the agent: `node dist/agent-worker.js`, with PERDURE_ADDRESS, JOURNAL, SILENT_AT and LEASE in the environment. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'perdure';
import { AGENT_QUEUE, agentWorkflow } from './agent-workflow.js';
import { ScriptedModel } from './scripted-model.js';
import { Shop } from './shop.js';

const shop = new Shop(process.env.JOURNAL ?? join(tmpdir(), 'perdure-example-support.jsonl'));
const model = new ScriptedModel(shop, Number(process.env.SILENT_AT ?? 0));
const worker = new Worker({
  taskQueue: AGENT_QUEUE,
  workflows: [agentWorkflow(model)],
  // The demo kills one with a short lease, so that it need not wait long for its run.
  leaseDuration: Number(process.env.LEASE ?? 30_000),
});
await worker.run();

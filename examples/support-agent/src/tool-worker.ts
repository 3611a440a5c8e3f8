/** A worker of the tools: `node dist/tool-worker.js`, with PERDURE_ADDRESS and JOURNAL in the environment. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'perdure';
import { Shop } from './shop.js';
import { TOOL_QUEUE, toolActivities } from './tools.js';

const shop = new Shop(process.env.JOURNAL ?? join(tmpdir(), 'perdure-example-support.jsonl'));
await new Worker({ taskQueue: TOOL_QUEUE, workflows: [...toolActivities(shop)] }).run();

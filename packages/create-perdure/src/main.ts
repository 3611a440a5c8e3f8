/** npm create perdure [folder] */
import { relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { createProject, ProjectError } from './project.js';

const USAGE =
  'Usage: npm create perdure [folder]\n\nMakes a project with a workflow, a worker and a test (default folder: perdure-app).';

function main(): number {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h' } },
    });
    if (values.help === true) {
      console.log(USAGE);
      return 0;
    }
    if (positionals.length > 1) throw new ProjectError(`Give one folder.\n\n${USAGE}`);
    const folder = resolve(positionals[0] ?? 'perdure-app');
    for (const { what } of createProject(folder)) console.log(`  made ${what}`);
    const place = relative(process.cwd(), folder);
    console.log(`\nA project with Perdure is in ${folder}. Next:\n`);
    if (place !== '') console.log(`  cd ${place}`);
    console.log('  npm install\n  npm run dev    # Perdure, the worker and a first run\n  npm test');
    return 0;
  } catch (error) {
    const isMistake = error instanceof ProjectError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
    if (!isMistake) throw error;
    console.error(`error ${(error as Error).message}`);
    return 2;
  }
}

process.exitCode = main();

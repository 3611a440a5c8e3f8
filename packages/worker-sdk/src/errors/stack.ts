/** `…/worker-sdk/`, as a path; undefined in a bundle, where the SDK's frames cannot be told from the author's. */
const PACKAGE = /^(?:file:\/\/)?(.*\/)dist\/errors\/stack\.js$/.exec(import.meta.url)?.[1];

/** A stack without the frames of the SDK and of Node.js itself: what is left is the author's code. */
export function authorsStack(stack: string): string {
  const lines = stack.split('\n');
  const kept = lines.filter((line) => !isInternalFrame(line));
  return kept.length === lines.length ? stack : kept.join('\n');
}

function isInternalFrame(line: string): boolean {
  if (!/^\s+at /.test(line)) return false;
  if (/[\s(]node:/.test(line)) return true;
  return PACKAGE !== undefined && (line.includes(`${PACKAGE}dist/`) || line.includes(`${PACKAGE}src/`));
}

#!/usr/bin/env node
// Committed, not built: package managers link commands when they install, before anything is built.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`error perdure needs Node 20.19 or newer; this is Node ${process.versions.node}.\n`);
  process.exit(2);
}
await import('../dist/main.js');

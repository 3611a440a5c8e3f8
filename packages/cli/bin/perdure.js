#!/usr/bin/env node
// Committed, not built: package managers link commands when they install, before anything is built.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) fail(`Perdure needs Node 20.19 or newer; this is ${process.version}.`);
const main = new URL('../dist/main.js', import.meta.url);
await import(main.href).catch((error) => {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' || error.url !== main.href) throw error;
  fail('This clone of Perdure is not built yet. Build it: npx -y pnpm@10 build');
});

function fail(message) {
  process.stderr.write(`error ${message}\n`);
  process.exit(2);
}

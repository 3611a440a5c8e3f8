// Checks the links of all Markdown files that lead to files and headings of this repository, and that every page of docs/
// is linked to. Addresses on the web are not looked at.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import GithubSlugger from 'github-slugger';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FILES = ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'];
const files = execFileSync('git', FILES, { cwd: ROOT, encoding: 'utf8' })
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(ROOT, file)));

/** Without code, in which brackets are no links and `#` begins no heading. */
const proseOf = (file) => readFileSync(join(ROOT, file), 'utf8').replace(/^(```|~~~).*?^\1/gms, '');

/** The anchors that GitHub gives to a page's headings. */
function anchorsOf(file) {
  const slugger = new GithubSlugger();
  return new Set(
    [...proseOf(file).matchAll(/^#{1,6} +(.+?) *#*$/gm)].map(([, heading]) =>
      slugger.slug(heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[`*]/g, '')),
    ),
  );
}

const problems = [];
const linked = new Set();
for (const file of files) {
  const prose = proseOf(file).replace(/`[^`\n]*`/g, '');
  const targets = [...prose.matchAll(/\]\(<?([^()\s>]+)>?(?: +"[^"]*")?\)|^\[[^\]]+\]: +(\S+)/gm)].map(
    ([, inline, reference]) => inline ?? reference,
  );
  for (const target of targets) {
    if (/^[a-z][a-z+.-]*:/i.test(target)) continue;
    const [path, anchor] = target.split('#');
    const found = path === '' ? join(ROOT, file) : resolve(ROOT, dirname(file), decodeURIComponent(path));
    const name = relative(ROOT, found);
    if (!existsSync(found)) problems.push(`${file} links to ${target}: there is no ${name}.`);
    else if (anchor !== undefined && statSync(found).isFile() && !anchorsOf(name).has(decodeURIComponent(anchor))) {
      problems.push(`${file} links to ${target}: ${name} has no heading with the anchor #${anchor}.`);
    }
    if (name !== file) linked.add(name);
  }
}
for (const file of files) {
  const isListed = [...linked].some((name) => name === file || name === dirname(file));
  if (file.startsWith('docs/') && !isListed) problems.push(`${file} is linked to from no other page.`);
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);

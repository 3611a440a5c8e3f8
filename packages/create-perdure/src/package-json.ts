import { createRequire } from 'node:module';
import type { Change } from './change.js';

type Entries = Readonly<Record<string, string>>;

export interface PackageJson {
  readonly name?: string;
  readonly type?: string;
  readonly scripts?: Entries;
  readonly dependencies?: Entries;
  readonly devDependencies?: Entries;
}

/** Perdure's packages have one version. */
const VERSION = (createRequire(import.meta.url)('../package.json') as { version: string }).version;

/** @throws {Error} when the text is no JSON object */
export function parsePackage(text: string): PackageJson {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('It must be a JSON object.');
  return value;
}

/** The template's package.json for a project of that name. */
export function newPackage(template: PackageJson, name: string): string {
  const packageName =
    name
      .toLowerCase()
      .replace(/[^a-z0-9-_.]+/g, '-')
      .replace(/^[-_.]+|[-_.]+$/g, '') || 'my-app';
  const dependencies = versioned(template.dependencies);
  return `${JSON.stringify({ ...template, name: packageName, dependencies }, null, 2)}\n`;
}

/** Adds scripts and dependencies that are missing; what is there stays as it is, also the indentation. */
export function mergePackage(
  text: string,
  found: PackageJson,
  template: PackageJson,
): { readonly text: string; readonly changes: readonly Change[] } {
  const changes: Change[] = [];
  const add = (field: 'scripts' | 'dependencies' | 'devDependencies', wanted: Entries): Entries | undefined => {
    const present = field === 'scripts' ? found.scripts : { ...found.devDependencies, ...found.dependencies };
    const missing = Object.entries(wanted).filter(([name]) => present?.[name] === undefined);
    for (const [name, value] of Object.entries(wanted)) {
      const what = `package.json: ${field} ${name}`;
      const is = present?.[name];
      if (is === undefined) changes.push({ what, action: 'added', note: value });
      else if (is !== value) {
        const note = field === 'scripts' ? `it exists; the template's is: ${value}` : 'it exists';
        changes.push({ what, action: 'kept', note });
      }
    }
    return missing.length === 0 ? undefined : { ...found[field], ...Object.fromEntries(missing) };
  };
  const added = {
    scripts: add('scripts', template.scripts ?? {}),
    dependencies: add('dependencies', versioned(template.dependencies)),
    devDependencies: add('devDependencies', template.devDependencies ?? {}),
  };
  const given = Object.entries(added).filter(([, entries]) => entries !== undefined);
  if (given.length === 0) return { text, changes };
  const indent = /^([ \t]+)"/m.exec(text)?.[1] ?? '  ';
  return { text: `${JSON.stringify({ ...found, ...Object.fromEntries(given) }, null, indent)}\n`, changes };
}

const versioned = (dependencies: Entries = {}): Entries =>
  Object.fromEntries(Object.entries(dependencies).map(([name, is]) => [name, name === 'perdure' ? `^${VERSION}` : is]));

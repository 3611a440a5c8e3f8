import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Change } from './change.js';
import { mergePackage, newPackage, type PackageJson, parsePackage } from './package-json.js';

/** The project cannot be made there; the message says why and what to do. */
export class ProjectError extends Error {
  override readonly name = 'ProjectError';
}

const TEMPLATE = fileURLToPath(new URL('../template/', import.meta.url));

/**
 * Makes a new project: a workflow, a worker, a client, a test and what they need.
 *
 * @throws {ProjectError} when something is in the folder already
 */
export function createProject(folder: string): readonly Change[] {
  const root = resolve(folder);
  if (existsSync(root)) {
    if (!statSync(root).isDirectory()) throw new ProjectError(`${root} is a file. Choose another folder.`);
    if (readdirSync(root).some((name) => name !== '.git')) {
      throw new ProjectError(
        `${root} is not empty. Choose another folder, or add Perdure to the project that is there: npx perdure init`,
      );
    }
  }
  mkdirSync(root, { recursive: true });
  return addToProject(root);
}

/**
 * Adds to a project what is missing of the template. Nothing that exists is changed, except that package.json gets the
 * scripts and dependencies that it lacks. In a project of CommonJS modules the files are .mts, so that they are ES modules.
 */
export function addToProject(folder: string): readonly Change[] {
  const root = resolve(folder);
  const packageFile = join(root, 'package.json');
  const template = readPackage(join(TEMPLATE, 'package.json'));
  const changes: Change[] = [];
  let isModule = true;
  if (existsSync(packageFile)) {
    const text = readFileSync(packageFile, 'utf8');
    const found = readPackage(packageFile);
    isModule = found.type === 'module';
    const merged = mergePackage(text, found, isModule ? template : asMts(template));
    if (merged.text !== text) writeFileSync(packageFile, merged.text);
    changes.push(...merged.changes);
  } else {
    mkdirSync(root, { recursive: true });
    writeFileSync(packageFile, newPackage(template, basename(root)));
    changes.push({ what: 'package.json', action: 'made' });
  }
  for (const source of templateFiles()) {
    const target = source === 'gitignore' ? '.gitignore' : isModule ? source : mtsText(source);
    const path = join(root, target);
    if (existsSync(path)) {
      changes.push({ what: target, action: 'kept', note: 'it exists' });
      continue;
    }
    const text = readFileSync(join(TEMPLATE, source), 'utf8');
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, isModule ? text : mtsText(text));
    changes.push({ what: target, action: 'made' });
  }
  return changes;
}

function templateFiles(): readonly string[] {
  return readdirSync(TEMPLATE, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'package.json')
    .map((entry) => join(entry.parentPath, entry.name).slice(TEMPLATE.length).replaceAll('\\', '/'))
    .sort();
}

function readPackage(path: string): PackageJson {
  try {
    return parsePackage(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new ProjectError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Names of source files and imports of them, as they are with .mts. */
const mtsText = (text: string): string =>
  text
    .replace(/\b((?:src|test)\/[\w.]+|vitest\.config)\.ts\b/g, '$1.mts')
    .replace(/(from '\.{1,2}\/[\w./]+|dist\/\w+)\.js\b/g, '$1.mjs');

const asMts = (template: PackageJson): PackageJson => parsePackage(mtsText(JSON.stringify(template)));

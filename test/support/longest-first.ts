import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Test files that take 20 s and more, the longest first. */
const LONGEST = [
  'pack/pack',
  'testing/crash-everywhere',
  'property/what-code-sees',
  'e2e/start',
  'e2e/cli',
  'e2e/examples',
  'session/fail-over',
  'e2e/chaos',
  'conformance/concurrency',
  'store/ended-runs',
  'e2e/worker-death',
  'conformance/reads',
];

/** Starts long files first, so that no worker is left with one when the others are done. The order is the same on every machine. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const found = LONGEST.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return found < 0 ? LONGEST.length : found;
    };
    return files.sort((a, b) => rank(a) - rank(b) || a.moduleId.localeCompare(b.moduleId));
  }
}

/** Order of the test files: kinds with the longest files first, so that no long file runs alone at the end. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const KINDS = ['e2e', 'fault', 'conformance', 'workflow', 'vm', 'boundary', 'store', 'replay', 'unit'];

export class KindsInOrder extends BaseSequencer {
  /** Within a kind the base class decides: files that failed last time, then those that took longest, else by size. */
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => KINDS.indexOf(a.project.name) - KINDS.indexOf(b.project.name));
  }
}

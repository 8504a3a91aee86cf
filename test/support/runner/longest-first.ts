/** The order of test files: those that take longest first, so that no long one is left to run alone at the end. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** By the time of their files. What is missing comes first. */
const KINDS = ['e2e', 'fault', 'vm', 'conformance', 'workflow', 'boundary', 'store', 'replay', 'unit'];

export class LongestFirst extends BaseSequencer {
  /** Where a file has not run on this machine, the base class goes by its size, within its kind. */
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const took = (file: TestSpecification) => this.ctx.cache.getTestSpecificationResult(file)?.duration ?? 0;
    const sorted = await super.sort(files);
    if (sorted.every((file) => took(file) > 0)) return sorted.toSorted((a, b) => took(b) - took(a));
    return sorted.toSorted((a, b) => KINDS.indexOf(a.project.name) - KINDS.indexOf(b.project.name));
  }
}

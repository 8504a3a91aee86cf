/** Lists at the end of a run which tests took longest: the place to begin when the whole run takes too long. */
import type { Reporter, TestModule } from 'vitest/node';

const LISTED = 10;

export default class SlowestReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const files = modules.map((module) => ({ ms: module.diagnostic().duration, name: module.relativeModuleId }));
    const cases = modules.flatMap((module) =>
      [...module.children.allTests()].map((test) => ({
        ms: test.diagnostic()?.duration ?? 0,
        name: `${module.relativeModuleId} > ${test.fullName}`,
      })),
    );
    if (cases.length <= LISTED) return;
    const lines = ['Slowest files, with their hooks:', ...longest(files), 'Slowest cases:', ...longest(cases)];
    process.stdout.write(`${lines.join('\n')}\n`);
  }
}

function longest(entries: readonly { readonly ms: number; readonly name: string }[]): string[] {
  const sorted = entries.toSorted((a, b) => b.ms - a.ms).slice(0, LISTED);
  return sorted.map(({ ms, name }) => `${(ms / 1000).toFixed(1).padStart(7)} s  ${name}`);
}

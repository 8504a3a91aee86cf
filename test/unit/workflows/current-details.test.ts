import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FAILURE_ADVICE } from '../../../domain/failure-advice.ts';
import { FAILURES, isFailureCode } from '../../../domain/failures.ts';
import { block, code, link, plain } from '../../../domain/markdown-text.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';
import { currentDetails } from '../../../workflows/workload/current-details.ts';

const AT = '2026-11-23T02:00:00.000Z';
const LATER = '2026-11-23T02:00:12.300Z';
const PENDING: WorkloadState = {
  workloadId: 'w-1',
  servicePath: 'services/hello',
  stage: 'pending',
  notes: [],
  unreleased: [],
  moves: [],
  createdAt: AT,
  updatedAt: AT,
};
const VM = { hostId: 'dev-1', epoch: 1, boot: 1, vmId: 'abc-1-1', pid: 77, port: 8081, url: 'http://127.0.0.1:8081' };

/** The text where markup could work: without code blocks, code spans and escaped characters. */
function active(markdown: string): string {
  return markdown
    .replace(/^(`{3,})text\n[\s\S]*?^\1$/gm, '')
    .replace(/\\[!-/:-@[-`{-~]|(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)/g, '');
}

describe('the page of a workload in the Temporal Web UI', () => {
  it('tells first why it waits, and since when', () => {
    const page = currentDetails({ ...PENDING, waiting: { reason: '1 host is full.', since: LATER } }, undefined);
    expect(page.split('\n').slice(0, 3)).toEqual([
      '### ● pending, waiting since 2026-11-23 02:00:12',
      '',
      '1 host is full\\.',
    ]);
    expect(page).toMatch(/\| pending\s+\| 02:00:00\s+\|\s+\| created\s+\|/);
    expect(page).toContain('`kiln workload inspect w-1` · `kiln workload logs w-1` · `kiln workload stop w-1`');
  });

  it('tells where a running one is and how long each stage took', () => {
    const moves = [{ seq: 1, at: LATER, from: 'pending', to: 'validate', cause: 'placed on dev-1' }] as const;
    const page = currentDetails({ ...PENDING, stage: 'validate', moves, vm: VM }, 'http://127.0.0.1:4800/logs');
    expect(page).toContain('- **Host:** `dev-1`\n- **VM:** `abc-1-1`, pid 77\n');
    expect(page).toContain('(<http://127.0.0.1:8081>)');
    expect(page).toMatch(/\| pending\s+\| 02:00:00\s+\| 12\.3 s\s+\| created\s+\|/);
    expect(page).toContain('(<http://127.0.0.1:4800/logs>)');
  });

  it('tells of a failure its code, message, last lines and what helps; of what is left, where', () => {
    const failure = { code: 'BUILD_FAILED', message: 'exit code 2', stage: 'build', stack: 'one\ntwo' } as const;
    const unreleased = [{ name: 'builder abc', hostId: 'dev-1', message: 'no answer' }];
    const page = currentDetails({ ...PENDING, stage: 'failed', failure, unreleased, notes: ['odd'] }, undefined);
    expect(page).toContain('### ✗ failed in build: `BUILD_FAILED`\n\nexit code 2\n\n```text\none\ntwo\n```\n');
    expect(page).toContain(`**Fix:** ${FAILURE_ADVICE.BUILD_FAILED}`);
    expect(page).toContain('- ⚠ **not released:** `builder abc` on `dev-1`: no answer\n- note: odd');
    expect(page).not.toContain('workload stop');
  });

  it('is of bounded size, and text from outside is no markup in it, whatever it is', () => {
    const nasty = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 3000 }),
      fc.string({
        unit: fc.constantFrom('`', '|', '<', '>', '*', '_', '[', ']', '(', ')', '\\', '\n', '#', 'a', ' '),
        maxLength: 300,
      }),
      fc.constantFrom('<img src=x onerror=alert(1)>', '| a |\n# b', '``` \n</details>', '[x](javascript:alert(1))'),
    );
    fc.assert(
      fc.property(nasty, nasty, nasty, nasty, (service, message, cause, stack) => {
        const state: WorkloadState = {
          ...PENDING,
          servicePath: service,
          stage: 'failed',
          moves: [{ seq: 1, at: LATER, from: 'pending', to: 'failed', cause }],
          failure: { code: 'INTERNAL', message, stage: 'pending', stack },
          vm: { ...VM, url: message },
          notes: Array.from({ length: 20 }, () => cause),
          unreleased: Array.from({ length: 50 }, () => ({ name: service, hostId: 'h', message })),
        };
        const page = currentDetails(state, undefined);
        expect(page.length).toBeLessThan(20_000);
        const rest = active(page);
        expect(rest).not.toMatch(/[<>[\]()`_]/);
        // Only the page's own heading and rows, nothing that came from outside.
        expect(rest.match(/^#/gm)).toHaveLength(1);
        for (const line of rest.split('\n').filter((each) => each.startsWith('|'))) {
          expect(line.match(/\|/g)).toHaveLength(5);
        }
      }),
    );
  });
});

describe('text in Markdown', () => {
  it('keeps what it says', () => {
    expect(plain('a*b <c>\nd', 100)).toBe('a\\*b \\<c\\> d');
    expect(code('a`b')).toBe('``a`b``');
    expect(code('`')).toBe('`` ` ``');
    expect(code('a|b')).toBe('`a¦b`');
    expect(block('1\n2\n```\n', 2, 100)).toEqual(['````text', '2', '```', '````']);
    expect(link('javascript:alert(1)')).toBe('`javascript:alert(1)`');
    expect(plain('x'.repeat(20), 5)).toBe('xxxx…');
  });
});

it('there is advice for each code that a workload can end with, and for no other', () => {
  expect(Object.keys(FAILURE_ADVICE).filter((name) => !isFailureCode(name))).toEqual([]);
  const silent = [
    'TEMPLATE_MISMATCH',
    'TEMPLATE_CORRUPT',
    'CHECKPOINT_MISMATCH',
    'CHECKPOINT_CORRUPT',
    'STORE_CONFLICT',
    'KNOWN_DEFECT',
    'CANCELLED',
    'INVALID_TRANSITION',
  ];
  const without = Object.entries(FAILURES).filter(
    ([name, { stages }]) => stages.length > 0 && !(name in FAILURE_ADVICE),
  );
  expect(without.map(([name]) => name).sort()).toEqual(silent.sort());
});

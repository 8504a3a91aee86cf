import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isKilnError } from '../../../domain/failures.ts';
import { project, type RecordedEvent } from '../../../domain/workload/projector.ts';
import { stagesOf } from '../../../domain/workload/reducer.ts';
import { canMove, isFinal, STAGES, type Stage, TRANSITIONS } from '../../../domain/workload/stages.ts';

const at = '2026-01-01T00:00:00.000Z';
const started: RecordedEvent = { kind: 'started', at, state: 'pending' };
const stage = (name: unknown): RecordedEvent => ({ kind: 'moved', at, state: name });

/** Follows the table of transitions from pending to a final stage; the given numbers choose each step. */
function lawfulPath(choices: readonly number[]): Stage[] {
  const path: Stage[] = [];
  let current: Stage = 'pending';
  for (let step = 0; !isFinal(current); step++) {
    const options: readonly Stage[] = TRANSITIONS[current];
    current = options[(choices[step] ?? 0) % options.length] ?? 'failed';
    path.push(current);
  }
  return path;
}

function history(path: readonly Stage[]): RecordedEvent[] {
  const status = path.at(-1) === 'stopped' ? 'completed' : 'failed';
  return [started, ...path.map(stage), { kind: 'closed', at, status, told: path }];
}

const lawful = fc.array(fc.nat(2), { minLength: 5, maxLength: 5 }).map(lawfulPath);

describe('the projector', () => {
  it('accepts every walk through the table', () => {
    fc.assert(
      fc.property(lawful, (path) => {
        expect(stagesOf(project(history(path)))).toEqual(['pending', ...path]);
      }),
    );
  });

  it('rejects a walk with one stage dropped, unless the rest is a walk itself', () => {
    fc.assert(
      fc.property(lawful, fc.nat(4), (path, index) => {
        const tampered = path.filter((_, i) => i !== index % path.length);
        const events = [
          started,
          ...tampered.map(stage),
          { kind: 'closed' as const, at, status: 'completed' as const, told: path },
        ];
        expect(() => project(events)).toThrow();
      }),
    );
  });

  it('rejects every single forbidden move', () => {
    for (const from of STAGES) {
      const path = [...pathTo(from)];
      for (const to of STAGES.filter((next) => !canMove(from, next))) {
        expect(() => project([started, ...path.map(stage), stage(to)])).toThrow(
          expect.objectContaining({ code: 'INVALID_TRANSITION' }),
        );
      }
    }
  });

  it.each<[string, RecordedEvent[]]>([
    ['nothing', []],
    ['no start', [stage('validate')]],
    ['a start in another stage', [{ kind: 'started', at, state: 'running' }]],
    ['a stage that there is not', [started, stage('paused')]],
    ['completed though failed', [started, stage('failed'), { kind: 'closed', at, status: 'completed' }]],
    ['failed though stopped', [started, stage('stopped'), { kind: 'closed', at, status: 'failed' }]],
    ['closed in a stage that is not final', [started, stage('validate'), { kind: 'closed', at, status: 'completed' }]],
    ['events after the close', [...history(['stopped']), stage('failed')]],
    ['another told list', [started, stage('stopped'), { kind: 'closed', at, status: 'completed', told: ['failed'] }]],
    ['continued in another stage', [started, stage('validate'), { kind: 'started', at, state: 'build' }]],
  ])('rejects %s', (_name, events) => {
    let error: unknown;
    try {
      project(events);
    } catch (thrown) {
      error = thrown;
    }
    expect(isKilnError(error, 'INVALID_TRANSITION')).toBe(true);
  });

  it('accepts one that was terminated, or timed out, while its books were being closed', () => {
    for (const status of ['terminated', 'timed-out'] as const) {
      for (const end of ['stopped', 'failed']) {
        expect(project([started, stage(end), { kind: 'closed', at, status }]).stage).toBe(end);
      }
    }
  });

  it('accepts a workload that is still on its way, and one that was terminated on it', () => {
    expect(project([started, stage('validate')]).stage).toBe('validate');
    expect(project([started, stage('validate'), { kind: 'closed', at, status: 'terminated' }]).stage).toBe('validate');
  });
});

function pathTo(target: Stage): Stage[] {
  const order: Stage[] = ['validate', 'build', 'deploy', 'running'];
  if (target === 'pending') return [];
  if (isFinal(target)) return [target];
  return order.slice(0, order.indexOf(target) + 1);
}
